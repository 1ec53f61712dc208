%% What it takes for a WebSocket to go on with another worker. Pure.
%%
%% The scope to open it again, the messages of the client that no app has taken yet, and the
%% account of how often it was tried: a worker that does not last is followed by the next after a
%% growing pause, and past a limit by none.
%%
%% A message may be what ends every worker that gets it, and would take the sockets of others along.
%% So a loss in vain, before the app took anything of what waited for it, counts double; and before
%% the next try such sockets are spread, so that what ends a worker is alone with few others.
-module(hornbeam_resume_state).

-export([new/2, received/3, acknowledge/2, pending/1]).
-export([interrupted/2, worker_lost/2, attempted/1, resumed/2]).
-export([scope/1, attempt/1, last/1, gap/1, spread/1]).
-export_type([state/0, kind/0]).

-type kind() :: text | binary.

-record(state, {
    scope :: hornbeam_wire:scope(),
    %% workers in a row that may be lost before they have lasted
    limit :: pos_integer(),
    pending = queue:new() :: queue:queue({kind(), binary()}),
    %% how often the app was asked to go on
    attempt = 0 :: non_neg_integer(),
    failures = 0 :: non_neg_integer(),
    %% how many of them in a row were in vain, and whether the next would be: nothing has been taken
    %% of what waited
    vain = 0 :: non_neg_integer(),
    stuck = false :: boolean(),
    %% when an app last went on (ms), of which the first time is the accept
    since :: integer() | undefined,
    %% since when there is none (ms), and how long there was none the last time
    interrupted :: integer() | undefined,
    gap = 0 :: non_neg_integer()
}).
-opaque state() :: #state{}.

%% An app that has gone on for so long (ms) has lasted; one that takes nothing may have hung for as
%% long as that, and has to last longer.
-define(LASTED, 10000).
-define(LASTED_STUCK, 300000).

%% Pauses (ms): none at first, then these, doubled each time.
-define(FIRST_PAUSE, 100).
-define(LONGEST_PAUSE, 5000).

%% @doc Of a WebSocket with this scope; so many workers in a row may be lost.
-spec new(hornbeam_wire:scope(), Limit :: pos_integer()) -> state().
new(Scope, Limit) ->
    #state{scope = Scope, limit = Limit}.

%% @doc The client has sent a message.
-spec received(kind(), binary(), state()) -> state().
received(Kind, Data, #state{pending = Pending} = State) ->
    State#state{pending = queue:in({Kind, Data}, Pending)}.

%% @doc The app has taken so many of them.
-spec acknowledge(non_neg_integer(), state()) -> state().
acknowledge(0, State) ->
    State;
acknowledge(Messages, #state{pending = Pending} = State) ->
    case queue:is_empty(Pending) of
        true -> State;
        false -> acknowledge(Messages - 1, State#state{pending = queue:drop(Pending), vain = 0,
                                                   stuck = false})
    end.

%% @doc What no app has taken, in the client's order.
-spec pending(state()) -> [{kind(), binary()}].
pending(#state{pending = Pending}) ->
    queue:to_list(Pending).

%% @doc There is no app any more.
-spec interrupted(Now :: integer(), state()) -> state().
interrupted(Now, #state{interrupted = undefined} = State) -> State#state{interrupted = Now};
interrupted(_Now, State) -> State.

%% @doc The worker is lost: after which pause (ms) to take another, if one is to be taken.
-spec worker_lost(Now :: integer(), state()) ->
    {again, Pause :: non_neg_integer(), state()} | give_up.
worker_lost(Now, #state{limit = Limit} = State) ->
    #state{failures = Failures, vain = Vain} = Lost = failed(has_lasted(Now, State), State),
    case Failures + Vain > Limit of
        true -> give_up;
        false -> {again, pause(Failures + Vain), Lost}
    end.

failed(true, State) ->
    State#state{failures = 1, vain = 0};
failed(false, #state{failures = Failures, vain = Vain, stuck = true} = State) ->
    State#state{failures = Failures + 1, vain = Vain + 1};
failed(false, #state{failures = Failures} = State) ->
    State#state{failures = Failures + 1}.

has_lasted(_Now, #state{since = undefined}) -> false;
has_lasted(Now, #state{since = Since, stuck = false}) -> Now - Since >= ?LASTED;
has_lasted(Now, #state{since = Since, stuck = true}) -> Now - Since >= ?LASTED_STUCK.

pause(1) -> 0;
pause(Failures) -> min(?LONGEST_PAUSE, ?FIRST_PAUSE bsl min(Failures - 2, 16)).

%% @doc An app is asked to go on.
-spec attempted(state()) -> state().
attempted(#state{attempt = Attempt} = State) ->
    State#state{attempt = Attempt + 1, since = undefined, stuck = false}.

%% @doc An app goes on.
-spec resumed(Now :: integer(), state()) -> state().
resumed(Now, #state{pending = Pending, interrupted = Interrupted, gap = Gap} = State) ->
    State#state{since = Now, interrupted = undefined, gap = gap(Now, Interrupted, Gap),
                  stuck = not queue:is_empty(Pending)}.

gap(_Now, undefined, Before) -> Before;
gap(Now, Interrupted, _Before) -> Now - Interrupted.

-spec scope(state()) -> hornbeam_wire:scope().
scope(#state{scope = Scope}) ->
    Scope.

%% @doc How often an app was asked to go on.
-spec attempt(state()) -> non_neg_integer().
attempt(#state{attempt = Attempt}) ->
    Attempt.

%% @doc When an app last went on (ms).
-spec last(state()) -> integer() | undefined.
last(#state{since = Since}) ->
    Since.

%% @doc How long there was none the last time (ms).
-spec gap(state()) -> non_neg_integer().
gap(#state{gap = Gap}) ->
    Gap.

%% @doc Within how long (ms) a socket is to go on that has got a place on a worker.
-spec spread(state()) -> non_neg_integer().
spread(#state{vain = 0}) -> 0;
spread(#state{failures = Failures, vain = Vain}) -> 2 * pause(Failures + Vain).
