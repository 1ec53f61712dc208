%% Asks the node's own code whether a client may come in, before Python hears of it.
%%
%% The code is a user's: it runs in a process of its own, has a limit, and whatever it answers
%% that is not in answer() is a failure, which lets nobody in.
-module(hornbeam_on_connect).

-export([ask/3]).
-export_type([request/0, callback/0, answer/0, decision/0]).

-type request() :: #{
    type := http | websocket,
    method := binary(),
    path := binary(),
    query := binary(),
    headers := #{binary() => binary()},
    peer := {inet:ip_address(), inet:port_number()} | undefined,
    scheme := binary(),
    host := binary() | undefined
}.
%% The client's address and the host are those that trusted proxies told (see the option
%% `forwarded_allow_ips'); the path is still percent-encoded; repeated headers are joined.

-type callback() :: fun((request()) -> answer()) | {module(), Function :: atom()}.

-type answer() ::
    ok
    | {ok, Additions :: map()}
    | {refuse, Status :: 300..599}
    | {refuse, Status :: 300..599, headers(), Body :: iodata()}.
%% The additions are for the app, in `scope["extensions"]["hornbeam.connect"]'.

-type headers() :: #{binary() => binary()}.
-type decision() ::
    ok
    | {ok, map()}
    | {refuse, 300..599, headers(), iodata()}
    | {failed, timeout | {answered, term()} | {crashed, term()}}.

%% @doc Ask, and wait at most `Timeout' ms for the answer.
-spec ask(callback(), request(), pos_integer()) -> decision().
ask(Callback, Request, Timeout) ->
    Asker = self(),
    Tag = make_ref(),
    _ = spawn_link(fun() -> Asker ! {Tag, outcome(Asker, Callback, Request, Timeout)} end),
    receive
        {Tag, Outcome} -> decision(Outcome)
    end.

%% Runs between the two, so that the user's code ends with the client and not the other way
%% round. Exits cannot be trapped by who asks: it is Cowboy's.
outcome(Asker, Callback, Request, Timeout) ->
    process_flag(trap_exit, true),
    Between = self(),
    Pid = spawn_link(fun() -> Between ! {self(), answer(Callback, Request)} end),
    receive
        {Pid, Outcome} -> Outcome;
        {'EXIT', Pid, Why} -> {crashed, Why};
        {'EXIT', Asker, _} -> exit(Pid, kill)
    after Timeout ->
        exit(Pid, kill),
        timeout
    end.

answer(Callback, Request) ->
    try
        {answered, called(Callback, Request)}
    catch
        Class:Reason:Stacktrace -> {crashed, {Class, Reason, Stacktrace}}
    end.

called({Module, Function}, Request) -> Module:Function(Request);
called(Fun, Request) -> Fun(Request).

decision({answered, ok}) ->
    ok;
decision({answered, {ok, Additions} = Answer}) when is_map(Additions) ->
    usable(is_encodable(Additions), Answer, Answer);
decision({answered, {refuse, Status}}) ->
    decision({answered, {refuse, Status, #{}, <<>>}});
decision({answered, {refuse, Status, Headers, Body} = Answer})
        when is_integer(Status), Status >= 300, Status =< 599, is_map(Headers) ->
    Values = maps:keys(Headers) ++ maps:values(Headers),
    usable(lists:all(fun is_field/1, Values) andalso is_iodata(Body), Answer, Answer);
decision({answered, Rubbish}) ->
    {failed, {answered, Rubbish}};
decision(Failed) ->
    {failed, Failed}.

usable(true, Decision, _Answer) -> Decision;
usable(false, _Decision, Answer) -> {failed, {answered, Answer}}.

is_encodable(Additions) ->
    try
        _ = hornbeam_msgpack:encode(Additions),
        true
    catch
        error:{unencodable, _, _} -> false
    end.

is_field(Value) ->
    is_binary(Value) andalso hornbeam_headers:is_value(Value).

is_iodata(Body) ->
    try
        _ = iolist_size(Body),
        true
    catch
        error:badarg -> false
    end.
