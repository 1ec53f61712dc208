%% The consistent state is linearizable while its nodes are killed, stand still and are cut off:
%% what clients on all of them were answered could have happened one after the other.
%%
%% Histories are as long as FUZZ_SECONDS says (30 s); FUZZ_SEED repeats the story of what becomes of
%% the nodes.
-module(hornbeam_linearizability_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile(export_all).

-define(KEYS, 8).
%% Of each node, and how long each waits between two calls (ms).
-define(CLIENTS, 3).
-define(PAUSE, 200).
%% Between two things that happen to nodes (ms).
-define(TROUBLE, 2500).

all() ->
    [the_checker_knows_right_from_wrong, nodes_in_trouble_stay_linearizable].

init_per_testcase(the_checker_knows_right_from_wrong, Config) ->
    Config;
init_per_testcase(nodes_in_trouble_stay_linearizable, Config) ->
    hornbeam_consensus_SUITE:init_per_testcase(nodes_in_trouble, Config).

end_per_testcase(the_checker_knows_right_from_wrong, _Config) ->
    ok;
end_per_testcase(nodes_in_trouble_stay_linearizable, Config) ->
    hornbeam_consensus_SUITE:end_per_testcase(nodes_in_trouble, Config).

the_checker_knows_right_from_wrong(_Config) ->
    Right = [
        [],
        [{0, 1, {set, 1}, {known, ok}}, {2, 3, get, {known, {ok, 1}}}],
        %% Which of two at once was first is told by what is found later.
        [{0, 9, {set, 1}, {known, ok}}, {0, 9, {set, 2}, {known, ok}},
         {10, 11, get, {known, {ok, 1}}}],
        %% Nobody knows whether it was done: it may have been, later than it was given up, or never.
        [{0, infinity, {set, 1}, unknown}, {5, 6, get, {known, absent}},
         {7, 8, get, {known, {ok, 1}}}],
        [{0, infinity, {set, 1}, unknown}, {5, 6, get, {known, absent}}],
        [{0, 3, incr, {known, {ok, 2}}}, {1, 2, incr, {known, {ok, 1}}}],
        [{0, 1, {add, 1}, {known, true}}, {2, 3, {cas, 1, 2}, {known, true}},
         {4, 5, delete, {known, true}}, {6, 7, {add, 3}, {known, true}}]
    ],
    Wrong = [
        [{0, 1, {set, 1}, {known, ok}}, {2, 3, get, {known, absent}}],
        [{0, 1, {set, 1}, {known, ok}}, {2, 3, {set, 2}, {known, ok}},
         {4, 5, get, {known, {ok, 1}}}],
        %% Once it was found, it stays.
        [{0, infinity, {set, 1}, unknown}, {5, 6, get, {known, {ok, 1}}},
         {7, 8, get, {known, absent}}],
        [{0, 1, incr, {known, {ok, 1}}}, {0, 1, incr, {known, {ok, 1}}}],
        [{0, 1, {add, 1}, {known, true}}, {0, 1, {add, 2}, {known, true}}],
        [{5, infinity, {set, 1}, unknown}, {0, 1, get, {known, {ok, 1}}}]
    ],
    _ = [?assertEqual({History, true}, {History, hornbeam_linearizable:check(History)})
         || History <- Right],
    _ = [?assertMatch({History, {false, _}}, {History, hornbeam_linearizable:check(History)})
         || History <- Wrong].

nodes_in_trouble_stay_linearizable(Config) ->
    {_, Nodes} = Cluster = proplists:get_value(cluster, Config),
    _ = rand:seed(exsss, {seed(), 2, 3}),
    Clients = [client(Node, Number) || Node <- Nodes, Number <- lists:seq(1, ?CLIENTS)],
    End = erlang:monotonic_time(millisecond) + 1000 * seconds(),
    Now = trouble(End, Cluster, Nodes, Config),
    put(nodes_now, Now),
    History = lists:append([stopped(Client) || Client <- Clients]),
    Answered = [Event || {_, answered, _} = Event <- History],
    Refused = [Event || {_, refused, _} = Event <- History],
    ct:pal("~b calls, ~b answered, ~b refused, ~b unknown",
           [length(History), length(Answered), length(Refused),
            length(History) - length(Answered) - length(Refused)]),
    ?assert(length(Answered) > 5 * seconds()),
    _ = [?assertEqual({Key, true}, {Key, hornbeam_linearizable:check(history_of(Key, History))})
         || Key <- lists:seq(1, ?KEYS)],
    ok.

history_of(Key, History) ->
    [Event || {K, _, {_, _, _, _} = Event} <- History, K =:= Key].

seconds() -> number("FUZZ_SECONDS", 30).

seed() -> number("FUZZ_SEED", 1).

number(Variable, Default) ->
    case os:getenv(Variable, "") of
        "" -> Default;
        Text -> list_to_integer(Text)
    end.

%%% What becomes of the nodes

trouble(End, Cluster, Nodes, Config) ->
    case erlang:monotonic_time(millisecond) < End of
        true -> trouble(End, Cluster, one_trouble(rand:uniform(4), Cluster, Nodes, Config), Config);
        false -> Nodes
    end.

one_trouble(1, Cluster, Nodes, Config) ->
    Victim = one_of(Nodes),
    hornbeam_cluster:kill_node(Victim),
    pass(?TROUBLE),
    Again = hornbeam_cluster:start_again(Cluster, Victim),
    Others = Nodes -- [Victim],
    _ = [hornbeam_cluster:connect(Again, Other) || Other <- Others],
    hornbeam_consensus_SUITE:start_member(Again, 3, Config),
    told_again(Victim, Again),
    pass(?TROUBLE),
    [Again | Others];
one_trouble(2, _Cluster, Nodes, _Config) ->
    Victim = one_of(Nodes),
    hornbeam_cluster:pause(Victim),
    pass(?TROUBLE),
    hornbeam_cluster:resume(Victim),
    pass(?TROUBLE),
    Nodes;
one_trouble(_Cut, _Cluster, Nodes, _Config) ->
    Victim = one_of(Nodes),
    _ = [hornbeam_cluster:part(Victim, Other) || Other <- Nodes -- [Victim]],
    pass(?TROUBLE),
    _ = [hornbeam_cluster:meet(Victim, Other) || Other <- Nodes -- [Victim]],
    _ = [hornbeam_cluster:connect(A, B) || A <- Nodes, B <- Nodes, A < B],
    pass(?TROUBLE),
    Nodes.

one_of(List) -> lists:nth(rand:uniform(length(List)), List).

%% Time is what this test is made of: nothing is waited for.
pass(Milliseconds) ->
    receive after Milliseconds -> ok end.

%%% Clients

%% It asks its node, or the one that has come in its place.
client(Node, Number) ->
    Seed = rand:uniform(1 bsl 32),
    Pid = spawn_link(fun() ->
        _ = rand:seed(exsss, {Seed, Number, 1}),
        ask_on(Node, Number bsl 40, [])
    end),
    put({client, hornbeam_cluster:node(Node)},
        [Pid | case get({client, hornbeam_cluster:node(Node)}) of undefined -> []; L -> L end]),
    Pid.

told_again(Victim, Again) ->
    _ = [Pid ! {node, Again} || Pid <- get({client, hornbeam_cluster:node(Victim)})],
    ok.

stopped(Client) ->
    Client ! {stop, self()},
    receive {history, Client, History} -> History after 60000 -> error(no_history) end.

ask_on(Node, Fresh, History) ->
    receive
        {stop, Pid} -> Pid ! {history, self(), History};
        {node, Again} -> ask_on(Again, Fresh, History)
    after rand:uniform(?PAUSE) ->
        Key = rand:uniform(?KEYS),
        Call = call(rand:uniform(9), Key, Fresh),
        Began = erlang:monotonic_time(microsecond),
        Answer = asked(Node, Key, Call),
        Ended = erlang:monotonic_time(microsecond),
        ask_on(Node, Fresh + 1, [event(Key, Call, Began, Ended, Answer) | History])
    end.

%% Half of the keys are counters, the others have values that are set once only.
call(N, Key, _Fresh) when Key rem 2 =:= 0 -> element(N, {get, get, get, incr, incr, incr, incr,
                                                         {add, 1}, delete});
call(N, _Key, Fresh) -> element(N, {get, get, get, {set, Fresh}, {set, Fresh}, {add, Fresh}, delete,
                                    {cas, Fresh - 1, Fresh}, {cas, Fresh - 2, Fresh}}).

asked(Node, Key, Call) ->
    try
        hornbeam_cluster:call(Node, hornbeam_consensus, element(1, function(Call, Key)),
                              element(2, function(Call, Key)), 20000)
    catch
        _:_ -> {error, uncertain}
    end.

function(get, Key) -> {get, [Key]};
function(delete, Key) -> {delete, [Key]};
function(incr, Key) -> {incr, [Key]};
function({set, New}, Key) -> {set, [Key, New]};
function({add, New}, Key) -> {add, [Key, New]};
function({cas, Old, New}, Key) -> {cas, [Key, Old, New]}.

event(Key, _Call, _Began, _Ended, {error, {unavailable, _}}) -> {Key, refused, none};
event(Key, get, _Began, _Ended, {error, uncertain}) -> {Key, unknown, none};
event(Key, Call, Began, _Ended, {error, uncertain}) ->
    {Key, unknown, {Began, infinity, Call, unknown}};
event(Key, Call, Began, Ended, Answer) -> {Key, answered, {Began, Ended, Call, {known, Answer}}}.
