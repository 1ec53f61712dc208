%% The processes behind the ops.
%%
%%   hornbeam_api_sup                one_for_one: none needs another to be the one it was
%%   ├── hornbeam_state_sweeper      frees state that is past its time
%%   ├── hornbeam_scoped_state       undoes what the dead did to the state, forgets theirs
%%   ├── hornbeam_hooks              forgets the hooks of dead workers
%%   ├── hornbeam_executions_sup     hook executions and streams
%%   ├── hornbeam_pubsub_registry    this node's subscriptions
%%   ├── hornbeam_pubsub_peers       those of the other nodes
%%   ├── hornbeam_pubsub_inbox_sup   what is published there
%%   ├── hornbeam_channels           queues of messages that somebody will read
%%   ├── hornbeam_app_metrics        what processes have counted
%%   ├── hornbeam_presence_server    who is present, and tells who watches and the other nodes
%%   ├── hornbeam_counter_server     counters of all nodes
%%   ├── hornbeam_call_service       what other nodes call here
%%   ├── hornbeam_leader_candidates  knows who stands for what here, and tells the other nodes
%%   └── hornbeam_leader_sup         candidates and elections
%%
%% What they know stands in tables that others own, so each goes on where it was; a crash here
%% does not touch a worker or a socket.
-module(hornbeam_api_sup).
-behaviour(supervisor).

-export([new_tables/1, start_link/0]).
-export([init/1]).

%% @doc Make the tables of all ops; their owner must outlive this tree.
-spec new_tables(hornbeam_quota:limits()) -> ok.
new_tables(Limits) ->
    hornbeam_quota:new(Limits),
    hornbeam_owner_quota:new_table(),
    hornbeam_state_rows:new_tables(),
    hornbeam_scoped_state:new_table(),
    hornbeam_connection_state:new(),
    hornbeam_functions:new_table(),
    hornbeam_hooks:new_table(),
    hornbeam_call_peers:new_table(),
    hornbeam_executions_sup:new_table(),
    hornbeam_outbox:new_table(),
    hornbeam_pubsub_registry:new_table(),
    hornbeam_pubsub_fanout:new_tables(),
    hornbeam_pubsub_peers:new_table(),
    hornbeam_pubsub_inbox:new_table(maps:get(peer_max_undelivered_bytes, Limits)),
    hornbeam_channels:new_tables(),
    hornbeam_presence_rows:new_tables(),
    hornbeam_counter_columns:new_tables(),
    hornbeam_fencing_token:new(),
    hornbeam_leader_candidates:new_table(),
    hornbeam_app_metrics:new_tables().

-spec start_link() -> {ok, pid()}.
start_link() ->
    await_ends(supervisors() ++ servers()),
    {ok, Pid} = supervisor:start_link({local, ?MODULE}, ?MODULE, []),
    {ok, Pid}.

%% @private
-spec init([]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init([]) ->
    Supervisors = [maps:put(type, supervisor, worker(Module)) || Module <- supervisors()],
    {ok, {#{strategy => one_for_one, intensity => 10, period => 10},
          Supervisors ++ [worker(Module) || Module <- servers()]}}.

supervisors() -> [hornbeam_executions_sup, hornbeam_pubsub_inbox_sup, hornbeam_leader_sup].

servers() ->
    [hornbeam_state_sweeper, hornbeam_scoped_state, hornbeam_hooks, hornbeam_pubsub_registry,
     hornbeam_pubsub_peers, hornbeam_channels, hornbeam_app_metrics, hornbeam_presence_server,
     hornbeam_counter_server, hornbeam_call_service, hornbeam_leader_candidates].

%% When the last tree's root was killed, its children are on their way out and hold their names.
await_ends(Names) ->
    lists:foreach(fun await_end/1, [erlang:monitor(process, Name) || Name <- Names]).

await_end(Ref) ->
    receive
        {'DOWN', Ref, process, _, _} -> ok
    end.

worker(Module) ->
    #{id => Module, start => {Module, start_link, []}}.
