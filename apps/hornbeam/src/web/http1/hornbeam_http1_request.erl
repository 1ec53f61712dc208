%% A request, from its head: what it asks for, and whether the rules of the server let it in.
-module(hornbeam_http1_request).

-include("../requests/hornbeam_request.hrl").
-include("hornbeam_http1_head.hrl").

-export([template/1, new/3, ends/3, check/3, may_follow/1, is_safe/1]).

%% @doc What all requests of a connection have in common; an error says that its client is gone.
-spec template(hornbeam_socket:socket()) -> {ok, hornbeam_request:request()} | error.
template(Socket) ->
    case {hornbeam_endpoints:peername(Socket), hornbeam_endpoints:sockname(Socket)} of
        {{ok, Peer}, {ok, Name}} ->
            {ok, #request{version = 'HTTP/1.1', method = <<>>, path = <<>>, below = <<>>,
                          query = <<>>, fields = [],
                          scheme = hornbeam_endpoints:scheme(Socket), peer = Peer, server = Name,
                          tls = hornbeam_endpoints:tls(Socket), socket = Socket}};
        _ ->
            error
    end.

%% @doc The request of a head.
-spec new(hornbeam_http1_head:line(), hornbeam_http1_head:fields(), Template) -> Template
    when Template :: hornbeam_request:request().
new({Method, Path, Query, Version}, #fields{list = List, body = Length} = Fields, Template) ->
    Template#request{version = Version, method = Method, path = Path, below = Path, query = Query,
                     fields = List, rest = Fields#fields.rest, body = Length,
                     upgrade = upgrade(Version, Fields), https = Fields#fields.https}.

%% It is one only where the connection's options say so (RFC 9110, 7.8).
upgrade('HTTP/1.1', #fields{upgrade = websocket, connection = Options}) ->
    case lists:member(<<"upgrade">>, Options) of
        true -> websocket;
        false -> none
    end;
upgrade(_Version, _Fields) ->
    none.

%% @doc Whether the connection is to end with the response, and how its client is told.
-spec ends(hornbeam_http1_head:line(), hornbeam_http1_head:fields(), hornbeam_mounts:mounts()) ->
    hornbeam_http1_queue:ends().
ends({_, _, _, 'HTTP/1.0'}, #fields{connection = Options}, Mounts) ->
    {not lists:member(<<"keep-alive">>, Options) orelse wants_end(Options, Mounts), true};
ends(_Line, #fields{connection = Options}, Mounts) ->
    {wants_end(Options, Mounts), false}.

wants_end(Options, Mounts) ->
    lists:member(<<"close">>, Options) orelse hornbeam_mounts:is_closing(Mounts).

%% @doc Let a request in, or not; and what is known of its fields then. Who was let in by the same
%% fields is let in again.
-spec check(Request, Fields, hornbeam_mounts:mount()) ->
    {ok, Request, Fields | none} | {refuse, {200..599, hornbeam_headers:fields(), binary()}}
    when Request :: hornbeam_request:request(), Fields :: hornbeam_http1_head:fields().
check(#request{rest = Rest} = Request, Fields, #{path := Path} = Mount)
        when Rest =:= undefined; is_atom(Path) ->
    case hornbeam_request_pipeline:check(http, Request, Mount) of
        {ok, none, #request{id = none} = Checked} ->
            #request{rest = Same} = Packed = hornbeam_scope:packed(Checked),
            {ok, Packed, Fields#fields{rest = Same}};
        {ok, _Forwarded, Checked} ->
            {ok, Checked, none};
        {refuse, Response} ->
            {refuse, Response}
    end;
check(Request, Fields, _Mount) ->
    {ok, Request, Fields}.

%% @doc Whether a request may go to the app before the one in front of it is answered, if that
%% changes nothing either: it is all there, and has no body that would have to be read first.
-spec may_follow(hornbeam_request:request()) -> boolean().
may_follow(#request{body = none, upgrade = none} = Request) -> is_safe(Request);
may_follow(_Request) -> false.

%% @doc Whether a request changes nothing (RFC 9110, 9.2.1), as far as that is of use here.
-spec is_safe(hornbeam_request:request()) -> boolean().
is_safe(#request{method = Method}) ->
    Method =:= <<"GET">> orelse Method =:= <<"HEAD">>.
