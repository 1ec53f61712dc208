%% Supervises the candidates of this node and the elections that it holds.
%%
%% None of them is started again. Who has stood notices that its candidate is gone; a candidate that
%% its election is, and looks for another one.
-module(hornbeam_leader_sup).
-behaviour(supervisor).

-export([start_link/0, start_candidate/3, start_election/1, elections/0]).
-export([init/1]).

-spec start_link() -> {ok, pid()}.
start_link() ->
    {ok, Pid} = supervisor:start_link({local, ?MODULE}, ?MODULE, []),
    {ok, Pid}.

%% @doc Start a candidate, unless there is one with this id.
-spec start_candidate(hornbeam_leader_candidates:id(), hornbeam_leader:name(),
                      hornbeam_leader_candidate:by()) -> ok.
start_candidate(Id, Name, By) ->
    _Pid = start({candidate, Id}, hornbeam_leader_candidate, [Id, Name, By]),
    ok.

%% @doc The election for a name that this node holds, perhaps a new one.
-spec start_election(hornbeam_leader:name()) -> pid().
start_election(Name) ->
    start({election, Name}, hornbeam_leader_election, [Name]).

%% @doc All elections that this node holds.
-spec elections() -> [pid()].
elections() ->
    [Pid || {{election, _}, Pid, _, _} <- supervisor:which_children(?MODULE), is_pid(Pid)].

start(Id, Module, Args) ->
    Spec = #{id => Id, start => {Module, start_link, Args}, restart => temporary, shutdown => 1000},
    case hornbeam_retry:unless_asked(fun() -> supervisor:start_child(?MODULE, Spec) end) of
        {ok, Pid} -> Pid;
        {error, {already_started, Pid}} -> Pid
    end.

%% @private
-spec init([]) -> {ok, {supervisor:sup_flags(), []}}.
init([]) ->
    {ok, {#{strategy => one_for_one}, []}}.
