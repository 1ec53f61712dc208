%% Looking for the stacks of a Python process that has hung, while it may still write them.
%%
%% Nothing says that it has written all, but that it writes no more: so it is read until two reads
%% bring the same. Knows the process's file in memory; whoever asks waits between the looks.
-module(hornbeam_worker_hang).

-export([new/3, pause/0, look/1, found/1]).
-export_type([hang/0]).

-record(hang, {
    os_pid :: hornbeam_os_process:os_pid(),
    dump :: hornbeam_os_process:dump(),
    silent :: pos_integer(),
    stacks = <<>> :: binary(),
    looks :: non_neg_integer()
}).
-opaque hang() :: #hang{}.

%% How often, and how many times, it is looked (ms).
-define(PAUSE, 50).
-define(LOOKS, 20).

%% @doc Have a process that was silent for so long (ms) write its stacks; `unknown' when it cannot.
-spec new(hornbeam_os_process:os_pid() | undefined, hornbeam_os_process:dump(),
          Silent :: pos_integer()) -> {ok, hang()} | unknown.
new(undefined, _Dump, _Silent) ->
    unknown;
new(OsPid, Dump, Silent) ->
    case hornbeam_os_process:ask_for_stacks(OsPid, Dump) of
        ok -> {ok, #hang{os_pid = OsPid, dump = Dump, silent = Silent, looks = ?LOOKS}};
        unknown -> unknown
    end.

%% @doc How long (ms) to wait before each {@link look/1}.
-spec pause() -> pos_integer().
pause() -> ?PAUSE.

%% @doc Look for the stacks: the time of silence and what there is, or look again.
-spec look(hang()) -> {ok, Silent :: pos_integer(), Stacks :: binary()} | {again, hang()}.
look(#hang{looks = 0, silent = Silent, stacks = Stacks}) ->
    {ok, Silent, Stacks};
look(#hang{os_pid = OsPid, dump = Dump, stacks = Before, silent = Silent, looks = Looks} = Hang) ->
    case hornbeam_os_process:stacks(OsPid, Dump) of
        Before when Before =/= <<>> -> {ok, Silent, Before};
        Stacks -> {again, Hang#hang{stacks = Stacks, looks = Looks - 1}}
    end.

%% @doc The time of silence, and what was found until now.
-spec found(hang()) -> {Silent :: pos_integer(), Stacks :: binary()}.
found(#hang{silent = Silent, stacks = Stacks}) ->
    {Silent, Stacks}.
