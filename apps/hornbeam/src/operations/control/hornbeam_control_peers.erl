%% The other nodes of the cluster to those who operate one of them: a request is done there as if it
%% had been made there.
%%
%% The process of this module stands for the room and knows what its requests need; it waits for
%% nobody. Who asks waits in the process of his own request, for a bounded time, and each question
%% has a process there (hornbeam_link_calls).
-module(hornbeam_control_peers).
-behaviour(gen_server).

-export([start_link/1, nodes/0, perform/5, all/3, ask/2]).
-export([heard/1, serve/2]).
-export([init/1, handle_call/3, handle_cast/2]).
-export_type([question/0, failure/0]).

-type question() ::
    {perform, Name :: binary(), Args :: #{binary() => term()}}
    | {connections, Filter :: #{atom() => term()}}
    | {kick, hornbeam_connection_registry:id(), Code :: term(), Reason :: term()}
    | {stacks, Worker :: binary()}.

-type failure() :: {no_node | no_answer, node()}.

-define(ROOM, control).

%% What one node may have another do.
-define(REQUESTS, [<<"connections">>, <<"connection">>, <<"kick">>, <<"stacks">>, <<"trace">>]).

%% A node says at once that it has begun, unless it stands still; and what is quick it has done in
%% so long (ms).
-define(BEGUN, 1500).
-define(PATIENCE, 6500).
%% Nothing takes longer than that (s), whatever was asked for: who is asked looks at that.
-define(MOST_SECONDS, 3600).

-spec start_link(hornbeam_control_requests:start()) -> gen_server:start_ret().
start_link(Start) ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, Start, []).

%% @doc The other nodes that can be asked.
-spec nodes() -> [node()].
nodes() -> lists:sort([Node || {Node, _} <- hornbeam_links:peers(?ROOM)]).

%% @doc Have a node do a request, which may take some seconds more than a quick one.
-spec perform(node(), Name :: binary(), Args :: #{binary() => term()},
              hornbeam_control_requests:emit(), Seconds :: integer()) ->
    {ok, term()} | {error, unicode:chardata()}.
perform(Node, Name, Args, Emit, Seconds) ->
    case asked(Node, {perform, Name, Args}, Emit, limit(Seconds)) of
        {ok, Outcome} -> Outcome;
        {error, {no_node, _}} -> {error, ["the node ", atom_to_binary(Node), " is gone"]};
        {error, {no_answer, _}} ->
            {error, ["the node ", atom_to_binary(Node), " does not answer"]}
    end.

%% @doc Ask a node something quick.
-spec ask(node(), question()) -> {ok, term()} | {error, failure()}.
ask(Node, Question) ->
    asked(Node, Question, fun(_) -> ok end, ?PATIENCE).

asked(Node, Question, Emit, Limit) ->
    case start(Node, Question) of
        {ok, Call} -> answered(collect(Call, Emit, times(Limit)), Call, Node);
        {error, no_node} -> {error, {no_node, Node}};
        {error, _} -> {error, {no_answer, Node}}
    end.

start(Node, Question) ->
    case [Peer || {Of, _} = Peer <- hornbeam_links:peers(?ROOM), Of =:= Node] of
        [Peer] -> hornbeam_link_calls:start(Peer, ?ROOM, Question);
        [] -> {error, no_node}
    end.

answered(Outcome, Call, Node) ->
    ok = hornbeam_link_calls:stop(Call),
    case Outcome of
        {ok, _} -> Outcome;
        {error, down} -> {error, {no_node, Node}};
        {error, _} -> {error, {no_answer, Node}}
    end.

%% @doc Ask all of these nodes at once, and do something here meanwhile: its result, and of each
%% node the answer or none.
-spec all([node()], question(), fun(() -> Here)) -> {Here, [{node(), {ok, term()} | none}]}.
all(Nodes, Question, Do) ->
    Times = times(limit(seconds(Question))),
    Started = [{Node, start(Node, Question)} || Node <- Nodes],
    Here = Do(),
    {Here, [{Node, one_of_all(Start, Node, Times)} || {Node, Start} <- Started]}.

one_of_all({ok, Call}, Node, Times) ->
    case answered(collect(Call, fun(_) -> ok end, Times), Call, Node) of
        {ok, _} = Answer -> Answer;
        {error, _} -> none
    end;
one_of_all({error, _}, _Node, _Times) ->
    none.

seconds({perform, _Name, #{<<"seconds">> := Seconds}}) when is_integer(Seconds) -> Seconds;
seconds(_Question) -> 0.

limit(Seconds) -> ?PATIENCE + 1000 * max(0, min(Seconds, ?MOST_SECONDS)).

times(Limit) ->
    Now = now_ms(),
    {Now + ?BEGUN, Limit, Now + Limit}.

%% Items may come for as long as they come in time.
collect(Call, Emit, {Begun, Limit, Last}) ->
    case hornbeam_link_calls:await(Call, max(0, Begun - now_ms())) of
        {ok, begun} -> collect(Call, Emit, {Last, Limit, Last});
        {ok, {item, Item}} -> taken(Emit(Item), Call, Emit, Limit);
        {ok, {done, Outcome}} -> {ok, Outcome};
        {error, _} = Error -> Error
    end.

taken(ok, Call, Emit, Limit) ->
    case hornbeam_link_calls:more(Call, taken) of
        ok -> collect(Call, Emit, {now_ms() + Limit, Limit, now_ms() + Limit});
        {error, _} = Error -> Error
    end.

now_ms() -> erlang:monotonic_time(millisecond).

%% Serving.

%% @private
-spec heard(hornbeam_links:event()) -> ok.
heard(Event) ->
    hornbeam_link_calls:heard(Event, {?ROOM, {?MODULE, serve}}, fun(_Peer, _Note) -> ok end).

%% @private
-spec serve(hornbeam_link_calls:served(), question()) -> ok.
serve(Served, Question) ->
    hornbeam_link_calls:may_be_ended(Served),
    hornbeam_link_calls:answer(Served, begun),
    hornbeam_link_calls:answer(Served, {done, do(Question, Served)}).

do({perform, Name, Args}, Served) ->
    case lists:member(Name, ?REQUESTS) of
        true -> hornbeam_control_requests:perform(Name, Args, emit(Served), requests());
        false -> {error, ["this request is not for another node: ", hornbeam_quoted:line(Name)]}
    end;
do({connections, Filter}, _Served) ->
    [Connection || Connection <- hornbeam_connections:all(),
                   maps:merge(Connection, Filter) =:= Connection];
do({kick, Id, Code, Reason}, _Served) ->
    hornbeam_connection_registry:kick(Id, Code, Reason);
do({stacks, Worker}, _Served) ->
    hornbeam_stacks:of_worker(Worker).

emit(Served) ->
    fun(Item) ->
        hornbeam_link_calls:answer(Served, {item, Item}),
        taken = hornbeam_link_calls:await_more(Served),
        ok
    end.

requests() -> gen_server:call(?MODULE, start, infinity).

%% @private
-spec init(hornbeam_control_requests:start()) -> {ok, hornbeam_control_requests:start()}.
init(Start) ->
    _ = hornbeam_links:join(?ROOM, self(), fun ?MODULE:heard/1),
    {ok, Start}.

%% @private
-spec handle_call(start, gen_server:from(), Start) -> {reply, Start, Start}
    when Start :: hornbeam_control_requests:start().
handle_call(start, _From, Start) ->
    {reply, Start, Start}.

%% @private
-spec handle_cast(term(), Start) -> {noreply, Start}.
handle_cast(_Request, Start) ->
    {noreply, Start}.
