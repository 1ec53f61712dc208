%% How an open WebSocket goes on with another worker (websocket_resume).
%%
%%   open ──worker dead──▶ pausing ──▶ waiting ──a place──▶ reopening ──accept──▶ open
%%     └──worker retires──▶ moving ──moved──▶┘ └─▶ spread ─▶┘
%%
%% Without a place in time, or after too many workers: closed. What is `spread' has a place and goes
%% on after a while of its own (hornbeam_resume).
%%
%% Runs in the connection's process, which stays the client's: what that sends meanwhile waits
%% (hornbeam_resume), and past the window TCP stops it. Each step gives the socket as it is then,
%% or how it is to be closed.
-module(hornbeam_websocket_resume).

-export([received/3, taken/2, lost/2, retiring/2, moved/1, resume/1, given/2, late/1, reopened/1]).
-export([leave/1, describe/1]).
-export_type([step/0]).

-include("hornbeam_websocket.hrl").

-type step() :: #socket{} | {close, code(), Reason :: binary()}.

%% While the pool's queue is full, a socket that is to go on asks again after a while (ms).
-define(WAIT_AGAIN, 500).

%% @doc The client has sent a message.
-spec received(hornbeam_resume:kind(), binary(), #socket{}) -> #socket{}.
received(Kind, Data, #socket{resume = undefined} = Socket) ->
    write(Kind, Data, Socket),
    Socket;
received(Kind, Data, #socket{resume = Resume, phase = Phase} = Socket) ->
    _ = [write(Kind, Data, Socket) || Phase =:= open],
    Socket#socket{resume = hornbeam_resume:received(Kind, Data, Resume)}.

write(text, Data, #socket{stream = Stream, number = Number}) ->
    hornbeam_stream:write(Stream, hornbeam_wire:receive_text(Number, Data));
write(binary, Data, #socket{stream = Stream, number = Number}) ->
    hornbeam_stream:write(Stream, hornbeam_wire:receive_bytes(Number, Data)).

%% @doc The app has taken so many of its messages.
-spec taken(non_neg_integer(), #socket{}) -> #socket{}.
taken(_Messages, #socket{resume = undefined} = Socket) ->
    Socket;
taken(Messages, #socket{resume = Resume} = Socket) ->
    Socket#socket{resume = hornbeam_resume:taken(Messages, Resume)}.

%% @doc The worker is dead, for a reason.
-spec lost(term(), #socket{}) -> step().
lost(_Reason, #socket{resume = undefined}) ->
    {close, 1012, <<"the app's process ended">>};
lost(Reason, #socket{resume = Resume} = Socket) ->
    case hornbeam_resume:lost(now_ms(), Resume) of
        {again, Pause, Again} ->
            _ = erlang:send_after(Pause, self(), resume),
            Lost = Socket#socket{phase = {pausing, why(Reason)}, resume = Again},
            until_deadline(without_deadline(Lost));
        give_up ->
            {close, 1011, <<"the app's process ends again and again">>}
    end.

why({shutdown, hung}) -> <<"hung">>;
why(_Reason) -> <<"died">>.

%% @doc The worker is to be left, because it is recycled, for example.
-spec retiring(atom(), #socket{}) -> #socket{}.
retiring(_Why, #socket{resume = undefined} = Socket) ->
    Socket;
retiring(Why, #socket{stream = Stream} = Socket) ->
    hornbeam_stream:move(Stream),
    Socket#socket{phase = {moving, atom_to_binary(Why)}}.

%% @doc The worker has given the stream away.
-spec moved(#socket{}) -> #socket{}.
moved(#socket{phase = {moving, Why}, worker = Worker} = Socket) ->
    true = erlang:demonitor(Worker, [flush]),
    wait(Why, until_deadline(Socket#socket{worker = undefined})).

%% The deadline is for one worker to accept, whose end begins it anew: that may come late, when it
%% hangs. How many there are is bounded by hornbeam_resume.
without_deadline(#socket{deadline = undefined} = Socket) ->
    Socket;
without_deadline(#socket{deadline = Deadline} = Socket) ->
    _ = erlang:cancel_timer(Deadline),
    Socket#socket{deadline = undefined}.

until_deadline(#socket{deadline = undefined, mount = #{options := Options}} = Socket) ->
    #{websocket_resume_timeout := Timeout} = Options,
    Socket#socket{deadline = erlang:start_timer(Timeout, self(), resume),
                  resume = hornbeam_resume:away(now_ms(), Socket#socket.resume)};
until_deadline(Socket) ->
    Socket.

%% @doc The deadline is over.
-spec late(#socket{}) -> step().
late(#socket{mount = #{counters := Counters}}) ->
    hornbeam_counters:add(resumes_late, Counters),
    {close, 1012, <<"no process of the app goes on">>}.

%% @doc The pause is over.
-spec resume(#socket{}) -> #socket{}.
resume(#socket{phase = {pausing, Why}} = Socket) ->
    wait(Why, Socket);
resume(#socket{phase = {spread, Why, Handle}} = Socket) ->
    reopen(Handle, Why, Socket).

wait(Why, #socket{mount = #{pool := Pool}} = Socket) ->
    Socket#socket{phase = {waiting, Why, hornbeam_pool:wait(Pool)}}.

%% @doc The pool gives a place, or says why not.
-spec given({ok, hornbeam_capacity:handle()} | {error, atom()}, #socket{}) -> step().
given({ok, Handle}, #socket{phase = {waiting, Why, _}, resume = Resume} = Socket) ->
    spread(hornbeam_resume:spread(Resume), Handle, Why, Socket);
given({error, no_worker}, _Socket) ->
    {close, 1012, <<"no process of the app goes on">>};
given({error, _QueueIsFullOrLate}, #socket{phase = {waiting, Why, _}} = Socket) ->
    _ = erlang:send_after(?WAIT_AGAIN, self(), resume),
    Socket#socket{phase = {pausing, Why}}.

spread(0, Handle, Why, Socket) ->
    reopen(Handle, Why, Socket);
spread(Within, Handle, Why, Socket) ->
    _ = erlang:send_after(rand:uniform(Within), self(), resume),
    Socket#socket{phase = {spread, Why, Handle}}.

reopen(Handle, Why, #socket{resume = Resume0} = Socket) ->
    Resume = hornbeam_resume:tried(Resume0),
    Scope = hornbeam_resume:scope(Resume),
    Attempt = hornbeam_resume:attempt(Resume),
    Stream = hornbeam_stream:reopen(Handle, fun(Number, Topics) ->
        hornbeam_wire:reopen_websocket(Number, Scope, Attempt, Why, Topics)
    end),
    Socket#socket{stream = Stream, number = hornbeam_stream:number(Stream), resume = Resume,
                  worker = hornbeam_stream:monitor(Stream), sent = {0, 0}, phase = reopening}.

%% @doc The app has accepted: it gets what none before it has taken.
-spec reopened(#socket{}) -> #socket{}.
reopened(#socket{stream = Stream, resume = Resume0} = Socket0) ->
    Socket = without_deadline(Socket0),
    hornbeam_stream:bind(Stream),
    lists:foreach(fun({Kind, Data}) -> write(Kind, Data, Socket) end,
                  hornbeam_resume:untaken(Resume0)),
    Resume = hornbeam_resume:resumed(now_ms(), Resume0),
    tell_of_resume(Resume, Socket),
    Socket#socket{phase = open, resume = Resume}.

tell_of_resume(Resume, #socket{mount = #{counters := Counters}, id = Id, about = {Path, _, _}}) ->
    hornbeam_counters:add(resumes, Counters),
    hornbeam_telemetry:execute([hornbeam, websocket, resume],
                               #{gap_ms => hornbeam_resume:gap(Resume),
                                 attempt => hornbeam_resume:attempt(Resume)},
                               #{id => Id, path => Path}).

%% @doc The socket ends. Whether it had a worker, which is to be told.
-spec leave(#socket{}) -> boolean().
leave(#socket{phase = {waiting, _, Ref}, mount = #{pool := Pool}}) ->
    hornbeam_pool:forget(Pool, Ref),
    false;
leave(#socket{phase = {pausing, _}}) ->
    false;
leave(#socket{phase = {spread, _, Handle}}) ->
    hornbeam_capacity:give_back(Handle),
    false;
leave(#socket{}) ->
    true.

%% @doc How often it went on, how many seconds ago, and how long it had no worker then.
-spec describe(#socket{}) -> none | #{atom() => non_neg_integer()}.
describe(#socket{resume = undefined}) ->
    none;
describe(#socket{resume = Resume}) ->
    case {hornbeam_resume:attempt(Resume), hornbeam_resume:last(Resume)} of
        {0, _} -> none;
        {Attempt, undefined} -> #{attempt => Attempt};
        {Attempt, Since} ->
            #{attempt => Attempt, seconds => (now_ms() - Since) div 1000,
              gap_ms => hornbeam_resume:gap(Resume)}
    end.

now_ms() -> erlang:monotonic_time(millisecond).
