%% A supervisor of a user's, registered as `household', with the children that it is given.
-module(household).
-behaviour(supervisor).

-export([start/1, start/2, stop/0]).
-export([init/1]).

-spec start([supervisor:child_spec()]) -> ok | {error, term()}.
start(Children) ->
    start(Children, 3).

%% It outlives who calls, and bears so many restarts in a minute.
-spec start([supervisor:child_spec()], Intensity :: non_neg_integer()) -> ok | {error, term()}.
start(Children, Intensity) ->
    {Pid, Ref} = spawn_monitor(fun() -> own(Children, Intensity) end),
    Pid ! {start, self()},
    receive
        {Pid, Answer} ->
            _ = demonitor(Ref, [flush]),
            Answer;
        {'DOWN', Ref, process, Pid, Reason} ->
            {error, Reason}
    end.

own(Children, Intensity) ->
    process_flag(trap_exit, true),
    Caller = receive {start, From} -> From end,
    case supervisor:start_link({local, ?MODULE}, ?MODULE, {Children, Intensity}) of
        {ok, Sup} ->
            Caller ! {self(), ok},
            receive
                {'EXIT', Sup, _} ->
                    ok;
                {stop, Stopper} ->
                    exit(Sup, shutdown),
                    receive {'EXIT', Sup, Reason} -> Stopper ! {self(), Reason} end
            end;
        {error, _} = Error ->
            Caller ! {self(), Error}
    end.

%% As the supervisor above it does.
-spec stop() -> term().
stop() ->
    stop(whereis(?MODULE)).

stop(undefined) ->
    ok;
stop(Sup) ->
    {dictionary, Dictionary} = process_info(Sup, dictionary),
    {'$ancestors', [Owner | _]} = lists:keyfind('$ancestors', 1, Dictionary),
    Owner ! {stop, self()},
    receive {Owner, Reason} -> Reason end.

-spec init({[supervisor:child_spec()], non_neg_integer()}) ->
    {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init({Children, Intensity}) ->
    {ok, {#{strategy => rest_for_one, intensity => Intensity, period => 60}, Children}}.
