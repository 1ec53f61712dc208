%% How an open WebSocket goes on with another worker (websocket_resume).
%%
%%   open ──worker dead──▶ pausing ──▶ waiting ──a place──▶ reopening ──accept──▶ open
%%     └──worker retires──▶ moving ──moved──▶┘ └─▶ spread ─▶┘
%%
%% Without a place in time, or after too many workers: closed. What is `spread' has a place and goes
%% on after a while of its own (hornbeam_resume_state).
%%
%% Runs in the connection's process, which stays the client's: what that sends meanwhile waits
%% (hornbeam_resume_state), and past the window TCP stops it. Each step gives the session as it is
%% then, or how it is to be closed.
-module(hornbeam_websocket_resume).

-export([received/3, acknowledge/2, worker_lost/2, retiring/2, moved/1, resume/1]).
-export([handle_place/2, handle_timeout/1, reopened/1, cancel/1, describe/1]).
-export_type([step/0]).

-include("hornbeam_websocket_session.hrl").

-type step() :: #session{} | {close, code(), Reason :: binary()}.

%% While the pool's queue is full, a socket that is to go on asks again after a while (ms).
-define(WAIT_AGAIN, 500).

%% @doc The client has sent a message.
-spec received(hornbeam_resume_state:kind(), binary(), #session{}) -> #session{}.
received(Kind, Data, #session{resume = undefined} = Session) ->
    write(Kind, Data, Session),
    Session;
received(Kind, Data, #session{resume = Resume, phase = Phase} = Session) ->
    _ = [write(Kind, Data, Session) || Phase =:= open],
    Session#session{resume = hornbeam_resume_state:received(Kind, Data, Resume)}.

write(text, Data, #session{stream = Stream, number = Number}) ->
    hornbeam_stream:write_message(Stream, hornbeam_wire:receive_text(Number, Data));
write(binary, Data, #session{stream = Stream, number = Number}) ->
    hornbeam_stream:write_message(Stream, hornbeam_wire:receive_bytes(Number, Data)).

%% @doc The app has taken so many of its messages.
-spec acknowledge(non_neg_integer(), #session{}) -> #session{}.
acknowledge(_Messages, #session{resume = undefined} = Session) ->
    Session;
acknowledge(Messages, #session{resume = Resume} = Session) ->
    Session#session{resume = hornbeam_resume_state:acknowledge(Messages, Resume)}.

%% @doc The worker is dead, for a reason.
-spec worker_lost(term(), #session{}) -> step().
worker_lost(_Reason, #session{resume = undefined}) ->
    {close, 1012, <<"the app's process ended">>};
worker_lost(Reason, #session{resume = Resume} = Session) ->
    case hornbeam_resume_state:worker_lost(now_ms(), Resume) of
        {again, Pause, Again} ->
            _ = erlang:send_after(Pause, self(), resume),
            Lost = Session#session{phase = {pausing, why(Reason)}, resume = Again},
            until_deadline(without_deadline(Lost));
        give_up ->
            {close, 1011, <<"the app's process ends again and again">>}
    end.

why({shutdown, hung}) -> <<"hung">>;
why(_Reason) -> <<"died">>.

%% @doc The worker is to be left, because it is recycled, for example.
-spec retiring(atom(), #session{}) -> #session{}.
retiring(_Why, #session{resume = undefined} = Session) ->
    Session;
retiring(Why, #session{stream = Stream} = Session) ->
    hornbeam_stream:move(Stream),
    Session#session{phase = {moving, atom_to_binary(Why)}}.

%% @doc The worker has given the stream away.
-spec moved(#session{}) -> #session{}.
moved(#session{phase = {moving, Why}, worker = Worker} = Session) ->
    true = erlang:demonitor(Worker, [flush]),
    wait(Why, until_deadline(Session#session{worker = undefined})).

%% The deadline is for one worker to accept, whose end begins it anew: that may come late, when it
%% hangs. How many there are is bounded by hornbeam_resume_state.
without_deadline(#session{deadline = undefined} = Session) ->
    Session;
without_deadline(#session{deadline = Deadline} = Session) ->
    _ = erlang:cancel_timer(Deadline),
    Session#session{deadline = undefined}.

until_deadline(#session{deadline = undefined, mount = #{options := Options}} = Session) ->
    #{websocket_resume_timeout := Timeout} = Options,
    Session#session{deadline = erlang:start_timer(Timeout, self(), resume),
                  resume = hornbeam_resume_state:interrupted(now_ms(), Session#session.resume)};
until_deadline(Session) ->
    Session.

%% @doc The deadline is over.
-spec handle_timeout(#session{}) -> step().
handle_timeout(#session{mount = #{counters := Counters}}) ->
    hornbeam_counters:add(resumes_late, Counters),
    {close, 1012, <<"no process of the app goes on">>}.

%% @doc The pause is over.
-spec resume(#session{}) -> #session{}.
resume(#session{phase = {pausing, Why}} = Session) ->
    wait(Why, Session);
resume(#session{phase = {spread, Why, Handle}} = Session) ->
    reopen(Handle, Why, Session).

wait(Why, #session{mount = #{pool := Pool}, affinity = Affinity} = Session) ->
    Session#session{phase = {waiting, Why, hornbeam_pool_place:line_up(Pool, Affinity)}}.

%% @doc The pool gives a place, or says why not.
-spec handle_place(Message :: term(), #session{}) -> step().
handle_place(Message, #session{phase = {waiting, Why, Wait}} = Session) ->
    given(hornbeam_pool_place:handle_info(Message, Wait, infinity), Why, Session).

given({ok, Handle}, Why, #session{resume = Resume} = Session) ->
    spread(hornbeam_resume_state:spread(Resume), Handle, Why, Session);
given({wait, Wait}, Why, Session) ->
    Session#session{phase = {waiting, Why, Wait}};
given({error, no_worker}, _Why, _Session) ->
    {close, 1012, <<"no process of the app goes on">>};
given({error, _QueueIsFullOrLate}, Why, Session) ->
    _ = erlang:send_after(?WAIT_AGAIN, self(), resume),
    Session#session{phase = {pausing, Why}}.

spread(0, Handle, Why, Session) ->
    reopen(Handle, Why, Session);
spread(Within, Handle, Why, Session) ->
    _ = erlang:send_after(rand:uniform(Within), self(), resume),
    Session#session{phase = {spread, Why, Handle}}.

reopen(Handle, Why, #session{resume = Resume0} = Session) ->
    Resume = hornbeam_resume_state:attempted(Resume0),
    Scope = hornbeam_resume_state:scope(Resume),
    Attempt = hornbeam_resume_state:attempt(Resume),
    Stream = hornbeam_stream:reopen(Handle, fun(Number, Topics) ->
        hornbeam_wire:reopen_websocket(Number, Scope, Attempt, Why, Topics)
    end),
    Session#session{stream = Stream, number = hornbeam_stream:number(Stream), resume = Resume,
                  worker = hornbeam_stream:monitor(Stream), sent = {0, 0}, phase = reopening}.

%% @doc The app has accepted: it gets what none before it has taken.
-spec reopened(#session{}) -> #session{}.
reopened(#session{stream = Stream, resume = Resume0} = Session0) ->
    Session = without_deadline(Session0),
    hornbeam_stream:bind(Stream),
    lists:foreach(fun({Kind, Data}) -> write(Kind, Data, Session) end,
                  hornbeam_resume_state:pending(Resume0)),
    Resume = hornbeam_resume_state:resumed(now_ms(), Resume0),
    tell_of_resume(Resume, Session),
    Session#session{phase = open, resume = Resume}.

tell_of_resume(Resume, #session{mount = Mount, id = Id, about = {Path, _, _}}) ->
    #{counters := Counters, traffic := Traffic, pool := Name} = Mount,
    hornbeam_counters:add(resumes, Counters),
    hornbeam_traffic:resumed(hornbeam_resume_state:gap(Resume), Traffic),
    hornbeam_telemetry:execute([hornbeam, websocket, resume],
                               #{gap_ms => hornbeam_resume_state:gap(Resume),
                                 attempt => hornbeam_resume_state:attempt(Resume)},
                               #{id => Id, mount => Name, path => Path}).

%% @doc The socket ends. Whether it had a worker, which is to be told.
-spec cancel(#session{}) -> boolean().
cancel(#session{phase = {waiting, _, Wait}}) ->
    hornbeam_pool_place:cancel(Wait),
    false;
cancel(#session{phase = {pausing, _}}) ->
    false;
cancel(#session{phase = {spread, _, Handle}}) ->
    hornbeam_capacity:give_back(Handle),
    false;
cancel(#session{}) ->
    true.

%% @doc How often it went on, how many seconds ago, and how long it had no worker then.
-spec describe(#session{}) -> none | #{atom() => non_neg_integer()}.
describe(#session{resume = undefined}) ->
    none;
describe(#session{resume = Resume}) ->
    case {hornbeam_resume_state:attempt(Resume), hornbeam_resume_state:last(Resume)} of
        {0, _} -> none;
        {Attempt, undefined} -> #{attempt => Attempt};
        {Attempt, Since} ->
            #{attempt => Attempt, seconds => (now_ms() - Since) div 1000,
              gap_ms => hornbeam_resume_state:gap(Resume)}
    end.

now_ms() -> erlang:monotonic_time(millisecond).
