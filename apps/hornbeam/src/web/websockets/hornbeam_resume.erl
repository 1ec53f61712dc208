%% What it takes for a WebSocket to go on with another worker. Pure.
%%
%% The scope to open it again, the messages of the client that no app has taken yet, and the
%% account of how often it was tried: a worker that does not last is followed by the next after a
%% growing pause, and past a limit by none.
%%
%% A message may be what ends every worker that gets it, and would take the sockets of others along.
%% So a loss in vain, before the app took anything of what waited for it, counts double; and before
%% the next try such sockets are spread, so that what ends a worker is alone with few others.
-module(hornbeam_resume).

-export([new/2, received/3, taken/2, untaken/1, away/2, lost/2, tried/1, resumed/2]).
-export([scope/1, attempt/1, last/1, gap/1, spread/1]).
-export_type([resume/0, kind/0]).

-type kind() :: text | binary.

-record(resume, {
    scope :: hornbeam_wire:scope(),
    %% workers in a row that may be lost before they have lasted
    limit :: pos_integer(),
    untaken = queue:new() :: queue:queue({kind(), binary()}),
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
    away :: integer() | undefined,
    gap = 0 :: non_neg_integer()
}).
-opaque resume() :: #resume{}.

%% An app that has gone on for so long (ms) has lasted; one that takes nothing may have hung for as
%% long as that, and has to last longer.
-define(LASTED, 10000).
-define(LASTED_STUCK, 300000).

%% Pauses (ms): none at first, then these, doubled each time.
-define(FIRST_PAUSE, 100).
-define(LONGEST_PAUSE, 5000).

%% @doc Of a WebSocket with this scope; so many workers in a row may be lost.
-spec new(hornbeam_wire:scope(), Limit :: pos_integer()) -> resume().
new(Scope, Limit) ->
    #resume{scope = Scope, limit = Limit}.

%% @doc The client has sent a message.
-spec received(kind(), binary(), resume()) -> resume().
received(Kind, Data, #resume{untaken = Untaken} = Resume) ->
    Resume#resume{untaken = queue:in({Kind, Data}, Untaken)}.

%% @doc The app has taken so many of them.
-spec taken(non_neg_integer(), resume()) -> resume().
taken(0, Resume) ->
    Resume;
taken(Messages, #resume{untaken = Untaken} = Resume) ->
    case queue:is_empty(Untaken) of
        true -> Resume;
        false -> taken(Messages - 1, Resume#resume{untaken = queue:drop(Untaken), vain = 0,
                                                   stuck = false})
    end.

%% @doc What no app has taken, in the client's order.
-spec untaken(resume()) -> [{kind(), binary()}].
untaken(#resume{untaken = Untaken}) ->
    queue:to_list(Untaken).

%% @doc There is no app any more.
-spec away(Now :: integer(), resume()) -> resume().
away(Now, #resume{away = undefined} = Resume) -> Resume#resume{away = Now};
away(_Now, Resume) -> Resume.

%% @doc The worker is lost: after which pause (ms) to take another, if one is to be taken.
-spec lost(Now :: integer(), resume()) -> {again, Pause :: non_neg_integer(), resume()} | give_up.
lost(Now, #resume{limit = Limit} = Resume) ->
    #resume{failures = Failures, vain = Vain} = Lost = failed(has_lasted(Now, Resume), Resume),
    case Failures + Vain > Limit of
        true -> give_up;
        false -> {again, pause(Failures + Vain), Lost}
    end.

failed(true, Resume) ->
    Resume#resume{failures = 1, vain = 0};
failed(false, #resume{failures = Failures, vain = Vain, stuck = true} = Resume) ->
    Resume#resume{failures = Failures + 1, vain = Vain + 1};
failed(false, #resume{failures = Failures} = Resume) ->
    Resume#resume{failures = Failures + 1}.

has_lasted(_Now, #resume{since = undefined}) -> false;
has_lasted(Now, #resume{since = Since, stuck = false}) -> Now - Since >= ?LASTED;
has_lasted(Now, #resume{since = Since, stuck = true}) -> Now - Since >= ?LASTED_STUCK.

pause(1) -> 0;
pause(Failures) -> min(?LONGEST_PAUSE, ?FIRST_PAUSE bsl min(Failures - 2, 16)).

%% @doc An app is asked to go on.
-spec tried(resume()) -> resume().
tried(#resume{attempt = Attempt} = Resume) ->
    Resume#resume{attempt = Attempt + 1, since = undefined, stuck = false}.

%% @doc An app goes on.
-spec resumed(Now :: integer(), resume()) -> resume().
resumed(Now, #resume{untaken = Untaken, away = Away, gap = Gap} = Resume) ->
    Resume#resume{since = Now, away = undefined, gap = gap(Now, Away, Gap),
                  stuck = not queue:is_empty(Untaken)}.

gap(_Now, undefined, Before) -> Before;
gap(Now, Away, _Before) -> Now - Away.

-spec scope(resume()) -> hornbeam_wire:scope().
scope(#resume{scope = Scope}) ->
    Scope.

%% @doc How often an app was asked to go on.
-spec attempt(resume()) -> non_neg_integer().
attempt(#resume{attempt = Attempt}) ->
    Attempt.

%% @doc When an app last went on (ms).
-spec last(resume()) -> integer() | undefined.
last(#resume{since = Since}) ->
    Since.

%% @doc How long there was none the last time (ms).
-spec gap(resume()) -> non_neg_integer().
gap(#resume{gap = Gap}) ->
    Gap.

%% @doc Within how long (ms) a socket is to go on that has got a place on a worker.
-spec spread(resume()) -> non_neg_integer().
spread(#resume{vain = 0}) -> 0;
spread(#resume{failures = Failures, vain = Vain}) -> 2 * pause(Failures + Vain).
