%% The table of what those who operate a server may ask of it, and what each request means.
%%
%% docs/wire.md, "Control", has the same table for whoever writes a client. An answer is a term,
%% which hornbeam_plain makes readable; what cannot be done is a sentence.
-module(hornbeam_control_requests).

-export([names/0, arguments/1, default/2, perform/4]).
-export_type([start/0, emit/0]).

-type start() :: #{node := module(), options := hornbeam_secret:secret(hornbeam_config:checked())}.
%% `node' is a hornbeam_control_node.

-type emit() :: fun((Item :: term()) -> ok).

-type outcome() :: {ok, term()} | {error, Sentence :: unicode:chardata()}.

%% The most connections that one answer lists, and what one trace may take.
-define(MOST_CONNECTIONS, 10000).
-define(MOST_MESSAGES, 1000000).
-define(MOST_SECONDS, 3600).
-define(MOST_BODY, 65536).

%% Each argument: whether it has to be there, what it may be, and what it is where nothing is said.
-define(TABLE, #{
    <<"status">> => #{},
    <<"cluster">> => #{},
    <<"members">> => #{},
    <<"remove_member">> => #{<<"node">> => text},
    <<"connections">> => #{
        <<"by">> => {[<<"sent">>, <<"received">>, <<"queue">>, <<"age">>], <<"age">>},
        <<"most">> => {{range, 1, ?MOST_CONNECTIONS}, 20},
        <<"path">> => {text, undefined},
        <<"seconds">> => {{range, 0, 60}, 0},
        <<"node">> => {text, undefined}
    },
    <<"connection">> => #{<<"id">> => id},
    <<"kick">> => #{<<"id">> => id, <<"code">> => {integer, 1008},
                    <<"reason">> => {text, <<>>}},
    <<"stacks">> => #{<<"worker">> => {text, undefined}, <<"node">> => {text, undefined}},
    <<"reload">> => #{<<"path">> => {text, undefined}},
    <<"workers">> => #{<<"workers">> => integer, <<"path">> => {text, undefined}},
    <<"drain">> => #{},
    <<"log_level">> => #{<<"level">> => [<<"debug">>, <<"info">>, <<"notice">>, <<"warning">>,
                                         <<"error">>, <<"critical">>]},
    <<"trace">> => #{
        <<"id">> => id,
        <<"messages">> => {{range, 1, ?MOST_MESSAGES}, 1000},
        <<"seconds">> => {{range, 1, ?MOST_SECONDS}, 60},
        <<"bodies">> => {{range, 0, ?MOST_BODY}, 0}
    },
    <<"doctor">> => #{}
}).

%% @doc What may be asked.
-spec names() -> [binary()].
names() -> lists:sort(maps:keys(?TABLE)).

%% @doc The arguments of a request.
-spec arguments(Name :: binary()) -> [binary()].
arguments(Name) -> lists:sort(maps:keys(maps:get(Name, ?TABLE))).

%% @doc What an argument is where nothing is said.
-spec default(Name :: binary(), Argument :: binary()) -> term().
default(Name, Argument) ->
    #{Name := #{Argument := {_Kind, Default}}} = ?TABLE,
    Default.

%% @doc Do it on this node, whose connections and workers have no names but those here: where they
%% may be another's, hornbeam_control_cluster has looked at that. What comes before the answer is
%% given to `Emit'.
%%
%% Without a start only what asks nothing of the root can be: connections and what they say.
-spec perform(Name :: binary(), Args :: #{term() => term()}, emit(), start() | none) -> outcome().
perform(Name, Args, Emit, Start) ->
    case ?TABLE of
        #{Name := Expected} -> performed(checked(Expected, Args), Name, Emit, Start);
        _ -> {error, ["this server knows no request ", hornbeam_quoted:line(Name)]}
    end.

performed({ok, Args}, Name, Emit, Start) -> do(Name, Args, Emit, Start);
performed({error, _} = Error, _Name, _Emit, _Start) -> Error.

%% Arguments.

checked(Expected, Args) ->
    case maps:keys(Args) -- maps:keys(Expected) of
        [] -> checked(maps:to_list(Expected), Args, #{});
        [Unknown | _] -> {error, io_lib:format("there is no argument ~0tp here", [Unknown])}
    end.

checked([], _Given, Args) ->
    {ok, Args};
checked([{Key, Rule} | Rules], Given, Args) ->
    case value(Rule, maps:get(Key, Given, undefined)) of
        {ok, Value} -> checked(Rules, Given, Args#{Key => Value});
        error -> {error, ["the argument ", Key, " has to be ", expected(Rule)]}
    end.

value({_Kind, Default}, undefined) -> {ok, Default};
value({Kind, _Default}, Value) -> value(Kind, Value);
value([_ | _] = Words, Value) -> ok_if(lists:member(Value, Words), Value);
value(Kind, Value) -> ok_if(is_of(Kind, Value), Value).

ok_if(true, Value) -> {ok, Value};
ok_if(false, _Value) -> error.

is_of({range, Least, Most}, Value) ->
    is_integer(Value) andalso Value >= Least andalso Value =< Most;
is_of(id, Value) -> is_integer(Value) andalso Value > 0;
is_of(integer, Value) -> is_integer(Value);
is_of(text, Value) -> is_binary(Value).

expected({range, Least, Most}) ->
    io_lib:format("a whole number from ~b to ~b", [Least, Most]);
expected({Kind, _Default}) ->
    expected(Kind);
expected([_ | _] = Words) ->
    ["one of ", lists:join(", ", Words)];
expected(text) ->
    "a text";
expected(id) ->
    "the number of a connection, or the name of its node, a slash and that";
expected(integer) ->
    "a whole number".

%% What each means.

do(<<"status">>, _Args, _Emit, #{node := Node}) ->
    {ok, hornbeam_control_status:of_server(Node:info())};
do(<<"cluster">>, _Args, _Emit, _Start) ->
    {ok, hornbeam_cluster_status:all()};
do(<<"members">>, _Args, _Emit, _Start) ->
    consensus(hornbeam_consensus:status());
do(<<"remove_member">>, #{<<"node">> := Name}, _Emit, _Start) ->
    case hornbeam_consensus:members() of
        {ok, Members, _Leader} -> remove_member(Name, [M || M <- Members, is_called(M, Name)]);
        {error, _} = Error -> consensus(Error)
    end;
do(<<"connections">>, #{<<"by">> := By, <<"most">> := Most, <<"path">> := Path,
                        <<"seconds">> := Seconds}, _Emit, _Start) ->
    {ok, hornbeam_connections:top(#{by => binary_to_existing_atom(By), most => Most,
                                    path => path_filter(Path), seconds => Seconds})};
do(<<"connection">>, #{<<"id">> := Id}, _Emit, _Start) ->
    case hornbeam_connections:find(Id) of
        {ok, Description} -> {ok, Description};
        {error, not_found} -> {error, no_connection(Id)};
        {error, busy} -> {error, io_lib:format("connection ~b is too busy to answer", [Id])}
    end;
do(<<"kick">>, #{<<"id">> := Id, <<"code">> := Code, <<"reason">> := Reason}, _Emit,
   #{node := Node}) ->
    case Node:kick(Id, Code, Reason) of
        ok -> {ok, undefined};
        {error, not_found} -> {error, no_connection(Id)};
        {error, {bad_code, _}} -> {error, io_lib:format("~b is no code to close with", [Code])};
        {error, {bad_reason, _}} -> {error, "a reason has at most 123 bytes of UTF-8"}
    end;
do(<<"stacks">>, #{<<"worker">> := undefined}, _Emit, #{node := Node}) ->
    {ok, [stacks(Worker, Node) || Worker <- workers(Node:info())]};
do(<<"stacks">>, #{<<"worker">> := Worker}, _Emit, #{node := Node}) ->
    case stacks(Worker, Node) of
        #{error := <<"no_worker">>} ->
            {error, ["there is no worker ", hornbeam_quoted:line(Worker)]};
        Stacks ->
            {ok, [Stacks]}
    end;
do(<<"reload">>, #{<<"path">> := undefined}, _Emit, #{node := Node}) ->
    done(Node:reload(), Node);
do(<<"reload">>, #{<<"path">> := Path}, _Emit, #{node := Node}) ->
    done(Node:reload(Path), Node);
do(<<"workers">>, #{<<"workers">> := Workers, <<"path">> := undefined}, _Emit, #{node := Node}) ->
    done(Node:set_workers(Workers), Node);
do(<<"workers">>, #{<<"workers">> := Workers, <<"path">> := Path}, _Emit, #{node := Node}) ->
    done(Node:set_workers(Path, Workers), Node);
do(<<"drain">>, _Args, _Emit, #{node := Node}) ->
    done(Node:drain(), Node);
do(<<"log_level">>, #{<<"level">> := Level}, _Emit, _Start) ->
    ok = set_level(binary_to_existing_atom(Level)),
    {ok, undefined};
do(<<"trace">>, #{<<"id">> := Id, <<"messages">> := Messages, <<"seconds">> := Seconds,
                  <<"bodies">> := Bodies}, Emit, _Start) ->
    Limits = #{messages => Messages, seconds => Seconds, bodies => Bodies},
    case hornbeam_control_trace:run(Id, Limits, fun(Note) -> Emit(shown(Note)) end) of
        {ok, _} = Ended -> Ended;
        {error, not_found} -> {error, no_connection(Id)}
    end;
do(<<"doctor">>, _Args, _Emit, #{node := Node, options := Options}) ->
    {ok, hornbeam_doctor:report(Node:info(), hornbeam_secret:show(Options))}.

is_called(Node, Name) -> atom_to_binary(Node) =:= Name.

remove_member(_Name, [Member]) -> consensus(hornbeam_consensus:remove(Member));
remove_member(Name, []) -> consensus({error, {not_member, Name}}).

consensus(ok) -> {ok, undefined};
consensus(#{members := _} = Status) -> {ok, Status};
consensus({error, {not_member, Name}}) ->
    {error, [hornbeam_quoted:line(Name), " is no member of the consistent state"]};
consensus({error, running}) ->
    {error, "it runs, and would come back as a member: stop it first"};
consensus({error, busy}) ->
    {error, "another change of the members is not done yet: try again in a moment"};
consensus({error, not_member}) ->
    {error, "it is no member any more"};
consensus({error, Reason}) ->
    {error, hornbeam_consensus:sentence(Reason)}.

done(ok, _Node) -> {ok, undefined};
done({error, Reason}, Node) -> {error, Node:format_error(Reason)}.

no_connection(Id) -> io_lib:format("there is no open connection ~b", [Id]).

%% As shells have it: a star at the end stands for whatever follows.
path_filter(undefined) ->
    any;
path_filter(Path) ->
    case binary:last(<<$/, Path/binary>>) of
        $* -> {below, binary:part(Path, 0, byte_size(Path) - 1)};
        _ -> {exact, Path}
    end.

workers(#{workers := Workers}) -> [Name || #{name := Name} <- Workers];
workers(_NotServing) -> [].

stacks(Worker, Node) ->
    case Node:stacks(Worker) of
        {ok, Stacks} -> Stacks#{worker => Worker};
        {error, Reason} -> #{worker => Worker, error => failure(Reason)}
    end.

failure(Reason) when is_atom(Reason) -> atom_to_binary(Reason);
failure(Reason) -> printed(Reason).

printed(Term) -> unicode:characters_to_binary(io_lib:format("~0tp", [Term])).

%% A payload is bytes, whatever it looks like.
shown(#{body := Body} = Note) -> Note#{body := hornbeam_msgpack:bytes(Body)}.

%% Handlers that show whatever they get do so on.
set_level(Level) ->
    ok = logger:set_primary_config(level, Level),
    case logger:get_handler_config(default) of
        {ok, #{level := all}} -> ok;
        {ok, _} -> logger:set_handler_config(default, level, Level);
        {error, _} -> ok
    end.
