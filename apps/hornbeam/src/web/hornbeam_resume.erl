%% What it takes for a WebSocket to go on with another worker. Pure.
%%
%% The scope to open it again, the messages of the client that no app has taken yet, and the
%% account of how often it was tried: a worker that does not last is followed by the next after a
%% growing pause, and past a limit by none.
-module(hornbeam_resume).

-export([new/2, received/3, taken/2, untaken/1, away/2, lost/2, tried/1, resumed/2]).
-export([scope/1, attempt/1, last/1, gap/1]).
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
    %% when an app last went on (ms), of which the first time is the accept
    since :: integer() | undefined,
    %% since when there is none (ms), and how long there was none the last time
    away :: integer() | undefined,
    gap = 0 :: non_neg_integer()
}).
-opaque resume() :: #resume{}.

%% An app that has gone on for so long (ms) has lasted.
-define(LASTED, 10000).

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
        false -> taken(Messages - 1, Resume#resume{untaken = queue:drop(Untaken)})
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
    case failures(Now, Resume) of
        Failures when Failures > Limit -> give_up;
        Failures -> {again, pause(Failures), Resume#resume{failures = Failures}}
    end.

failures(Now, #resume{since = Since}) when Since =/= undefined, Now - Since >= ?LASTED -> 1;
failures(_Now, #resume{failures = Failures}) -> Failures + 1.

pause(1) -> 0;
pause(Failures) -> min(?LONGEST_PAUSE, ?FIRST_PAUSE bsl min(Failures - 2, 16)).

%% @doc An app is asked to go on.
-spec tried(resume()) -> resume().
tried(#resume{attempt = Attempt} = Resume) ->
    Resume#resume{attempt = Attempt + 1, since = undefined}.

%% @doc An app goes on.
-spec resumed(Now :: integer(), resume()) -> resume().
resumed(Now, #resume{away = undefined} = Resume) ->
    Resume#resume{since = Now};
resumed(Now, #resume{away = Away} = Resume) ->
    Resume#resume{since = Now, away = undefined, gap = Now - Away}.

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
