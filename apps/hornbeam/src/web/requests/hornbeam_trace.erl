%% What one open connection says and hears, told to a process that wants to see it.
%%
%%   new ──▶ note, note, … ──▶ off: after so many or so long, when nobody looks any more, or with
%%                             the connection
%%
%% The connection has it among what it knows: `off' as long as nobody looks, which is one comparison
%% for a message. It waits for nobody: who looks counts down what it has taken (taken/2), and what
%% comes while too much is on its way is dropped and counted. Runs in the connection's process.
-module(hornbeam_trace).

-export([new/2, stop/2, note/4, ended/2]).
-export([window/0, taken/2]).
-export_type([trace/0, viewed/0, limits/0, window/0, note/0, ending/0]).

-record(trace, {
    viewer :: pid(),
    ref :: reference(),
    %% monotonic milliseconds
    until :: integer(),
    messages :: non_neg_integer(),
    %% of a payload, how many bytes are shown
    shown :: non_neg_integer(),
    window :: window()
}).
-opaque viewed() :: #trace{}.
-type trace() :: off | viewed().

-type limits() :: #{ref := reference(), seconds := pos_integer(), messages := pos_integer(),
                    bodies := non_neg_integer(), window := window()}.
%% `bodies': bytes of each payload that are shown.

-opaque window() :: atomics:atomics_ref().

-type note() :: #{direction := in | out, type := atom(), size := non_neg_integer(),
                  body := binary(), at := integer(), dropped := non_neg_integer()}.
%% `at': system time, microseconds. `dropped': how many before it were.

-type ending() :: limit | replaced | {closed, term()}.

%% What may be on its way to who looks (messages, and bytes of what is shown of them).
-define(MESSAGES, 500).
-define(BYTES, 1048576).

%% The atomics.
-define(ON_THEIR_WAY, 1).
-define(SIZE, 2).
-define(DROPPED, 3).

%% @doc What is on its way from one connection to who looks at it.
-spec window() -> window().
window() ->
    atomics:new(3, [{signed, true}]).

%% @doc Who looks has taken a note.
-spec taken(note(), window()) -> ok.
taken(#{body := Body}, Window) ->
    atomics:sub(Window, ?ON_THEIR_WAY, 1),
    atomics:sub(Window, ?SIZE, byte_size(Body)).

%% @doc Somebody looks from now on, in place of whoever has before.
-spec new({pid(), limits()}, trace()) -> trace().
new({Viewer, Limits}, Before) ->
    ok = ended(replaced, Before),
    #{ref := Ref, seconds := Seconds, messages := Messages, bodies := Shown, window := Window} =
        Limits,
    #trace{viewer = Viewer, ref = Ref, messages = Messages, shown = Shown, window = Window,
           until = erlang:monotonic_time(millisecond) + 1000 * Seconds}.

%% @doc Who has looked does so no longer.
-spec stop(reference(), trace()) -> trace().
stop(Ref, #trace{ref = Ref}) -> off;
stop(_Ref, Trace) -> Trace.

%% @doc A message has come or goes.
-spec note(in | out, Type :: atom(), Payload :: binary(), trace()) -> trace().
note(_Direction, _Type, _Payload, off) ->
    off;
note(Direction, Type, Payload, #trace{viewer = Viewer, until = Until} = Trace) ->
    case is_process_alive(Viewer) andalso erlang:monotonic_time(millisecond) < Until of
        true -> noted(Direction, Type, Payload, Trace);
        false -> off
    end.

noted(Direction, Type, Payload, #trace{messages = Left, shown = Shown} = Trace) ->
    %% A copy: who looks would keep all that was read with it.
    Body = binary:copy(binary:part(Payload, 0, min(Shown, byte_size(Payload)))),
    tell(#{direction => Direction, type => Type, size => byte_size(Payload), body => Body,
           at => erlang:system_time(microsecond)}, Trace),
    last(Left - 1, Trace).

tell(#{body := Body} = Note, #trace{viewer = Viewer, ref = Ref, window = Window}) ->
    case has_room(Window) of
        true ->
            atomics:add(Window, ?ON_THEIR_WAY, 1),
            atomics:add(Window, ?SIZE, byte_size(Body)),
            _ = Viewer ! {trace, Ref, Note#{dropped => atomics:exchange(Window, ?DROPPED, 0)}},
            ok;
        false ->
            atomics:add(Window, ?DROPPED, 1)
    end.

has_room(Window) ->
    atomics:get(Window, ?ON_THEIR_WAY) < ?MESSAGES andalso atomics:get(Window, ?SIZE) < ?BYTES.

last(0, Trace) ->
    ok = ended(limit, Trace),
    off;
last(Left, Trace) ->
    Trace#trace{messages = Left}.

%% @doc Tell who looks that this was all, and why.
-spec ended(ending(), trace()) -> ok.
ended(_Why, off) ->
    ok;
ended(Why, #trace{viewer = Viewer, ref = Ref, window = Window}) ->
    _ = Viewer ! {trace_ended, Ref, Why, atomics:exchange(Window, ?DROPPED, 0)},
    ok.
