%% A stream handler of Cowboy's that lets a connection have only so much under way: who asks again
%% and again and reads nothing would have the node keep all of the answers.
-module(hornbeam_operations_stream).
-behaviour(cowboy_stream).

-export([init/3, data/4, info/3, terminate/3, early_error/5]).

-type state() :: {next, term()} | refused.

%% How many requests of this connection, whose process this is, are under way.
-define(UNDER_WAY, ?MODULE).

%% @private
-spec init(cowboy_stream:streamid(), cowboy_req:req(), cowboy:opts()) ->
    {cowboy_stream:commands(), state()}.
init(StreamId, #{version := Version} = Req, Opts) ->
    UnderWay = under_way(),
    case UnderWay < most(Version) of
        true ->
            _ = put(?UNDER_WAY, UnderWay + 1),
            {Commands, Next} = cowboy_stream:init(StreamId, Req, Opts),
            {Commands, {next, Next}};
        false ->
            {[{error_response, 429, #{<<"content-length">> => <<"0">>}, <<>>}, stop], refused}
    end.

%% A page in a browser that speaks HTTP/2 asks for its tables beside its feed.
most('HTTP/2') -> 8;
most(_Version) -> 1.

under_way() ->
    case get(?UNDER_WAY) of
        undefined -> 0;
        Number -> Number
    end.

%% @private
-spec data(cowboy_stream:streamid(), cowboy_stream:fin(), binary(), state()) ->
    {cowboy_stream:commands(), state()}.
data(StreamId, IsFin, Data, {next, Next}) ->
    next(cowboy_stream:data(StreamId, IsFin, Data, Next));
data(_StreamId, _IsFin, _Data, refused) ->
    {[], refused}.

%% @private
-spec info(cowboy_stream:streamid(), term(), state()) -> {cowboy_stream:commands(), state()}.
info(StreamId, Info, {next, Next}) ->
    next(cowboy_stream:info(StreamId, Info, Next));
info(_StreamId, _Info, refused) ->
    {[], refused}.

next({Commands, Next}) -> {Commands, {next, Next}}.

%% @private
-spec terminate(cowboy_stream:streamid(), cowboy_stream:reason(), state()) -> ok.
terminate(StreamId, Reason, {next, Next}) ->
    _ = put(?UNDER_WAY, under_way() - 1),
    _ = cowboy_stream:terminate(StreamId, Reason, Next),
    ok;
terminate(_StreamId, _Reason, refused) ->
    ok.

%% @private
-spec early_error(cowboy_stream:streamid(), cowboy_stream:reason(),
                  cowboy_stream:partial_req(), Response, cowboy:opts()) -> Response
    when Response :: cowboy_stream:resp_command().
early_error(_StreamId, _Reason, _PartialReq, Response, _Opts) ->
    Response.
