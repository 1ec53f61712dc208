%% Asks the node's own code whether a client may come in, before Python hears of it.
%%
%% The code is a user's: it runs in a process of its own, has a limit, and whatever it answers
%% that is not in answer() is a failure, which lets nobody in.
-module(hornbeam_on_connect).

-export([ask/4, forget/1]).
-export_type([tag/0, request/0, callback/0, answer/0, decision/0]).

-opaque tag() :: {reference(), pid()}.

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
    | {refuse, 300..599, hornbeam_headers:fields(), iodata()}
    | {failed, timeout | {answered, term()} | {crashed, term()}}.

%% @doc Ask; `Owner' gets `{on_connect, Tag, Decision}' once, at the latest after `Timeout' ms.
-spec ask(hornbeam_stream:owner(), callback(), request(), Timeout :: pos_integer()) -> tag().
ask(Owner, Callback, Request, Timeout) ->
    Tag = make_ref(),
    Between = spawn(fun() -> between({Owner, Tag}, Callback, Request, Timeout) end),
    {Tag, Between}.

%% @doc Ask no longer: nobody wants the answer.
-spec forget(tag()) -> ok.
forget({_Tag, Between}) ->
    exit(Between, kill),
    ok.

%% Runs between the two, so that the user's code ends with the client and not the other way round.
between({Owner, Tag}, Callback, Request, Timeout) ->
    Client = erlang:monitor(process, hornbeam_stream:process(Owner)),
    Between = self(),
    {Pid, Called} = spawn_opt(fun() -> Between ! {self(), answer(Callback, Request)} end,
                              [link, monitor]),
    _ = process_flag(trap_exit, true),
    Outcome = receive
        {Pid, Answered} -> Answered;
        {'DOWN', Called, process, _, Why} -> {crashed, Why};
        {'DOWN', Client, process, _, _} -> exit(gone)
    after Timeout ->
        timeout
    end,
    exit(Pid, kill),
    hornbeam_stream:send(Owner, {on_connect, {Tag, Between}, decision(Outcome)}).

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
    case is_encodable(Additions) of
        true -> Answer;
        false -> {failed, {answered, Answer}}
    end;
decision({answered, {refuse, Status}}) ->
    decision({answered, {refuse, Status, #{}, <<>>}});
decision({answered, {refuse, Status, Headers, Body} = Answer})
        when is_integer(Status), Status >= 300, Status =< 599, is_map(Headers) ->
    Fields = maps:to_list(Headers),
    case lists:all(fun is_field/1, Fields) andalso is_iodata(Body) of
        true -> {refuse, Status, [{hornbeam_headers:lower(Name), V} || {Name, V} <- Fields], Body};
        false -> {failed, {answered, Answer}}
    end;
decision({answered, Rubbish}) ->
    {failed, {answered, Rubbish}};
decision(Failed) ->
    {failed, Failed}.

is_encodable(Additions) ->
    try
        _ = hornbeam_msgpack:encode(Additions),
        true
    catch
        error:{unencodable, _, _} -> false
    end.

is_field({Name, Value}) ->
    is_binary(Name) andalso is_binary(Value) andalso hornbeam_headers:is_token(Name)
        andalso hornbeam_headers:is_clean(Value).

is_iodata(Body) ->
    try
        _ = iolist_size(Body),
        true
    catch
        error:badarg -> false
    end.
