%% Processes on the nodes of a cluster that do what a test says, until they are killed; and those
%% that are told who is present, and do as a client does.
-module(hornbeam_agents).

-export([start/1, do/4, kill/2, follow/2, followed/2]).
%% Called on the nodes.
-export([start_here/0, do_here/2, follow_here/1, followed_here/1]).

start(Node) -> hornbeam_cluster:call(Node, ?MODULE, start_here, []).

%% What a function returns that the agent calls.
do(Node, Agent, Function, Args) ->
    hornbeam_cluster:call(Node, ?MODULE, do_here, [Agent, {Function, Args}]).

kill(Node, Agent) ->
    hornbeam_cluster:call(Node, hornbeam_eventually, dead, [Agent]).

follow(Node, Topic) -> hornbeam_cluster:call(Node, ?MODULE, follow_here, [Topic]).

%% Metas by their refs, as one knows them who was told.
followed(Node, Follower) -> hornbeam_cluster:call(Node, ?MODULE, followed_here, [Follower]).

start_here() ->
    spawn(fun agent/0).

agent() ->
    receive
        {From, Ref, {{Module, Function}, Args}} ->
            From ! {Ref, apply(Module, Function, Args)},
            agent()
    end.

do_here(Agent, What) ->
    Ref = make_ref(),
    Agent ! {self(), Ref, What},
    receive {Ref, Result} -> Result after 20000 -> error({no_answer, What}) end.

%% Who lists after having subscribed misses nothing.
follow_here(Topic) ->
    Caller = self(),
    Pid = spawn(fun() ->
        ok = hornbeam_presence:subscribe(Topic),
        Caller ! {self(), follows},
        follower(known(hornbeam_presence:list(Topic)), [])
    end),
    receive {Pid, follows} -> Pid after 20000 -> error(does_not_follow) end.

follower(Known, Told) ->
    receive
        {hornbeam_pubsub, _, #{<<"event">> := Event, <<"payload">> := Payload}} ->
            follower(applied(Event, Payload, Known), [{Event, Payload} | Told]);
        {From, Ref, followed} ->
            From ! {Ref, {Known, lists:reverse(Told)}},
            follower(Known, Told)
    end.

applied(<<"presence_state">>, State, _Known) ->
    known(State);
applied(<<"presence_diff">>, #{<<"joins">> := Joins, <<"leaves">> := Leaves}, Known) ->
    maps:without(maps:keys(known(Leaves)), maps:merge(Known, known(Joins))).

known(Members) ->
    maps:from_list([{Ref, {Key, maps:without([<<"phx_ref">>, <<"phx_ref_prev">>], Meta)}}
                    || {Key, #{<<"metas">> := Metas}} <- maps:to_list(Members),
                       #{<<"phx_ref">> := Ref} = Meta <- Metas]).

followed_here(Follower) ->
    Ref = make_ref(),
    Follower ! {self(), Ref, followed},
    receive {Ref, Followed} -> Followed after 20000 -> error(no_answer) end.
