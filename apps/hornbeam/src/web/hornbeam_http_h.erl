%% An HTTP exchange that has to wait before it begins, in Cowboy's request process.
%%
%% It waits in line for a place, and gives the stream to the exchange in the connection's process
%% (hornbeam_exchange), which does all the rest.
-module(hornbeam_http_h).
-behaviour(cowboy_handler).

-export([init/2]).

%% @private
-spec init(cowboy_req:req(), hornbeam_mounts:mount()) ->
    {ok, cowboy_req:req(), hornbeam_mounts:mount()}.
init(Req, Mount) ->
    case hornbeam_mounts:checkout(Mount) of
        {ok, Handle} -> serve(Handle, Req, Mount);
        unavailable -> {ok, hornbeam_response:refuse(503, Req), Mount}
    end.

-spec serve(hornbeam_stream:handle(), cowboy_req:req(), hornbeam_mounts:mount()) -> no_return().
serve(Handle, #{has_body := HasBody} = Req, #{counters := Counters}) ->
    Scope = hornbeam_scope:http(Req),
    Stream = hornbeam_stream:open(Handle, http, fun(Number) ->
        hornbeam_wire:open_http(Number, Scope, <<>>, HasBody)
    end),
    hornbeam_counters:add(http_requests, Counters),
    hornbeam_exchange:serve(Stream, [], Req).
