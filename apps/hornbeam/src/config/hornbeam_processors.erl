%% How many processors a node may use.
-module(hornbeam_processors).

-export([count/0]).

%% @doc Those that the system lets the node run on, or as many as its container's quota is worth,
%% but no more than it has schedulers.
%%
%% How many schedulers are online tells it only where nobody has changed that (`+SP', or
%% hornbeam_schedulers).
-spec count() -> pos_integer().
count() ->
    lists:min([erlang:system_info(schedulers) | [Count || Count <- [available(), quota()],
                                                          is_integer(Count), Count > 0]]).

available() -> erlang:system_info(logical_processors_available).

%% The emulator knows it, for its own default (OTP 23 and later), and its documentation does not.
quota() ->
    try erlang:system_info(cpu_quota)
    catch
        error:badarg -> unknown
    end.
