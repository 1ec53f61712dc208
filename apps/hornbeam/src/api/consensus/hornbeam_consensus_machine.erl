%% The consistent state as a machine of `ra': what each command makes of it. Pure.
%%
%% All members apply the same commands in the same order, so nothing here may depend on the node,
%% its options, its clock or its atoms: values stay packed, and the only time is the one that a
%% command carries. What stands in a log or a snapshot is read by later versions of this module:
%% `format' says how the state looks, and {@link version/0} counts up with any change of what a
%% command does.
%%
%% Locks are had by sessions, one of each node that wants some. A session says each time, in
%% `{session, Pid, Number, Claims}', all that it claims; what it claims no more is released. One
%% that is not heard of for {@link lease/0} has ended, and its locks go to the next in line. That
%% time is measured by the member that leads, and anew when another one does, so that no clock is
%% compared with that of another node. A session's process stays watched when it has ended: to take
%% a monitor back waits for a link that is busy, and with the one that leads all commands would.
-module(hornbeam_consensus_machine).
-behaviour(ra_machine).

-export([init/1, apply/3, state_enter/2, overview/1, version/0, which_module/1]).
-export([lease/0, max_value/0]).
-export_type([state/0, command/0, key/0, claim/0, held/0]).

-type key() :: hornbeam_state_key:key().
-type value() :: number() | {packed, binary()}.

-type command() ::
    {get, key()}
    | {set, key(), value()}
    | {add, key(), value()}
    | {cas, key(), Old :: value(), New :: value()}
    | {delete, key()}
    | {incr, key(), number()}
    | {session, pid(), Number :: pos_integer(), [claim()]}.
%% A session's number grows with each thing that it says: what arrives late is not heard.

-type claim() :: {Lock :: binary(), Ref :: reference()}.
-type held() :: {Ref :: reference(), Token :: pos_integer()}.

-type session() :: {Number :: pos_integer(), [claim()]}.
-type holder() :: {pid(), reference()}.
-type lock() :: {holder(), Token :: pos_integer(), Waiting :: [holder()]}.

-type state() :: #{
    format := 1,
    rows := #{key() => value()},
    bytes := non_neg_integer(),
    sessions := #{pid() => session()},
    locks := #{binary() => lock()},
    token := non_neg_integer()
}.

-type applied() :: {state(), Reply :: term(), ra_machine:effects()}.

%% How long a session is believed in (ms).
-define(LEASE, 15000).
%% Bytes of all keys and values, and of one value.
-define(MAX_BYTES, 67108864).
-define(MAX_VALUE, 1048576).
%% Bytes of a row beside its key and value (about).
-define(ROW, 100).
%% So many entries of the log after another the state is written down, and they may go.
-define(SNAPSHOT, 1024).

%% @doc How long a session is believed in after it was heard of, in milliseconds.
-spec lease() -> pos_integer().
lease() -> ?LEASE.

%% @doc Bytes that a value has at most.
-spec max_value() -> pos_integer().
max_value() -> ?MAX_VALUE.

%% @private
-spec version() -> pos_integer().
version() -> 1.

%% @private
-spec which_module(non_neg_integer()) -> module().
which_module(_Version) -> ?MODULE.

%% @private
-spec init(map()) -> state().
init(_Config) ->
    #{format => 1, rows => #{}, bytes => 0, sessions => #{}, locks => #{}, token => 0}.

%% @private
-spec apply(#{index := integer(), system_time := integer(), atom() => term()}, term(), state()) ->
    applied().
apply(#{index := Index} = Meta, Command, State0) ->
    {State, Reply, Effects} = do(Command, Meta, State0),
    {State, Reply, snapshot(Index, State) ++ Effects}.

snapshot(Index, State) when Index rem ?SNAPSHOT =:= 0 -> [{release_cursor, Index, State}];
snapshot(_Index, _State) -> [].

do({get, Key}, _Meta, State) ->
    {State, found(Key, State), []};
do({set, Key, Value}, _Meta, State) ->
    put_row(Key, Value, ok, State);
do({add, Key, Value}, _Meta, State) ->
    add(found(Key, State), Key, Value, State);
do({cas, Key, Old, New}, _Meta, State) ->
    cas(found(Key, State), Key, Old, New, State);
do({delete, Key}, _Meta, State) ->
    delete(found(Key, State), Key, State);
do({incr, Key, Delta}, _Meta, State) ->
    incr(found(Key, State), Key, Delta, State);
do({session, Pid, Number, Claims}, Meta, State) ->
    session(Pid, Number, Claims, Meta, State);
do({timeout, {session, Pid, Number}}, Meta, State) ->
    timed_out(Pid, Number, Meta, State);
%% Whether a node that is out of reach still runs is not known: its time is.
do({down, _Pid, noconnection}, _Meta, State) ->
    {State, ok, []};
do({down, Pid, _Reason}, Meta, State) ->
    ended(Pid, Meta, State);
%% What a newer version says, or ra does to all machines.
do(_Other, _Meta, State) ->
    {State, {error, unknown_command}, []}.

%% Rows.

found(Key, #{rows := Rows}) ->
    case Rows of
        #{Key := Value} -> {ok, Value};
        #{} -> absent
    end.

add(absent, Key, Value, State) -> put_row(Key, Value, true, State);
add({ok, _}, _Key, _Value, State) -> {State, false, []}.

cas(absent, _Key, _Old, _New, State) ->
    {State, false, []};
cas({ok, Value}, Key, Old, New, State) ->
    case hornbeam_value:same(Value, Old) of
        true -> put_row(Key, New, true, State);
        false -> {State, false, []};
        {error, too_long} = Error -> {State, Error, []}
    end.

incr(absent, Key, Delta, State) ->
    put_row(Key, Delta, {ok, Delta}, State);
incr({ok, Number}, Key, Delta, State) when is_number(Number) ->
    case hornbeam_value:sum(Number, Delta) of
        {ok, Sum} -> put_row(Key, Sum, {ok, Sum}, State);
        {error, overflow} = Error -> {State, Error, []}
    end;
incr({ok, _}, _Key, _Delta, State) ->
    {State, {error, not_a_number}, []}.

delete(absent, _Key, State) ->
    {State, false, []};
delete({ok, Value}, Key, #{rows := Rows, bytes := Bytes} = State) ->
    {State#{rows := maps:remove(Key, Rows), bytes := Bytes - row_bytes(Key, Value)}, true, []}.

put_row(Key, Value, Done, #{rows := Rows, bytes := Bytes} = State) ->
    Less = case Rows of
        #{Key := Old} -> Bytes - row_bytes(Key, Old);
        #{} -> Bytes
    end,
    case Less + row_bytes(Key, Value) of
        More when More =< ?MAX_BYTES; More =< Bytes ->
            {State#{rows := Rows#{Key => Value}, bytes := More}, Done, []};
        _TooMany ->
            {State, {error, full}, []}
    end.

row_bytes(Key, Value) ->
    ?ROW + hornbeam_state_key:bytes(Key) + hornbeam_value:bytes(Value).

%% Sessions.

session(Pid, Number, Claims, Meta, #{sessions := Sessions} = State) ->
    case Sessions of
        #{Pid := {Later, _}} when Later >= Number -> {State, {error, late}, []};
        #{Pid := Before} -> heard(Pid, Number, Claims, Before, Meta, State);
        #{} when Claims =:= [] -> {State, {ok, []}, []};
        #{} -> begun(Pid, Number, Claims, Meta, State)
    end.

begun(Pid, Number, Claims, Meta, State) ->
    {Heard, Reply, Effects} = heard(Pid, Number, Claims, {0, []}, Meta, State),
    {Heard, Reply, [{monitor, process, Pid} | Effects]}.

heard(Pid, _Number, [], {Before, Old}, Meta, #{sessions := Sessions} = State) ->
    Less = State#{sessions := maps:remove(Pid, Sessions)},
    {Released, Effects} = release_all(Pid, Old, Meta, Less),
    {Released, {ok, []}, [timer(Pid, Before, infinity) | Effects]};
heard(Pid, Number, Claims, {Before, Old}, Meta, #{sessions := Sessions} = State) ->
    More = State#{sessions := Sessions#{Pid => {Number, Claims}}},
    {Released, Effects} = release_all(Pid, Old -- Claims, Meta, More),
    Claimed = lists:foldl(fun(Claim, S) -> claim(Pid, Claim, Meta, S) end, Released, Claims -- Old),
    {Claimed, {ok, held(Pid, Claims, Claimed)},
     [timer(Pid, Before, infinity), timer(Pid, Number, ?LEASE) | Effects]}.

timer(Pid, Number, Time) -> {timer, {session, Pid, Number}, Time}.

held(Pid, Claims, #{locks := Locks}) ->
    [{Ref, Token} || {Lock, Ref} <- Claims,
                     #{Lock := {Holder, Token, _}} <- [Locks], Holder =:= {Pid, Ref}].

%% Since then it has been heard of, unless it is this number that was waited for.
timed_out(Pid, Number, Meta, #{sessions := Sessions} = State) ->
    case Sessions of
        #{Pid := {Number, _}} -> ended(Pid, Meta, State);
        #{} -> {State, ok, []}
    end.

ended(Pid, Meta, #{sessions := Sessions} = State) ->
    case maps:take(Pid, Sessions) of
        {{Number, Claims}, Left} ->
            {Released, Effects} = release_all(Pid, Claims, Meta, State#{sessions := Left}),
            {Released, ok, [timer(Pid, Number, infinity) | Effects]};
        error ->
            {State, ok, []}
    end.

%% Locks.

claim(Pid, {Lock, Ref}, Meta, #{locks := Locks} = State) ->
    case Locks of
        #{Lock := {Holder, Token, Waiting}} ->
            State#{locks := Locks#{Lock := {Holder, Token, Waiting ++ [{Pid, Ref}]}}};
        #{} ->
            {Token, Next} = token(Meta, State),
            Next#{locks := Locks#{Lock => {{Pid, Ref}, Token, []}}}
    end.

token(#{system_time := Milliseconds}, #{token := Greatest} = State) ->
    Token = hornbeam_fencing_token:next_after(Greatest, Milliseconds * 1000),
    {Token, State#{token := Token}}.

release_all(Pid, Claims, Meta, State) ->
    lists:foldl(fun(Claim, {Before, Effects}) ->
        {After, More} = release(Pid, Claim, Meta, Before),
        {After, More ++ Effects}
    end, {State, []}, Claims).

release(Pid, {Lock, Ref}, Meta, #{locks := Locks} = State) ->
    case Locks of
        #{Lock := {{Pid, Ref}, _Token, Waiting}} -> passed_on(Lock, Waiting, Meta, State);
        #{Lock := {Holder, Token, Waiting}} ->
            {State#{locks := Locks#{Lock := {Holder, Token, Waiting -- [{Pid, Ref}]}}}, []};
        #{} -> {State, []}
    end.

passed_on(Lock, [], _Meta, #{locks := Locks} = State) ->
    {State#{locks := maps:remove(Lock, Locks)}, []};
passed_on(Lock, [{Pid, _Ref} = Next | Waiting], Meta, State) ->
    {Token, #{locks := Locks} = Counted} = token(Meta, State),
    {Counted#{locks := Locks#{Lock := {Next, Token, Waiting}}},
     [{send_msg, Pid, {hornbeam_consensus, look}}]}.

%% @private Who leads now knows nothing of the time that its predecessor has measured.
-spec state_enter(term(), state()) -> ra_machine:effects().
state_enter(leader, #{sessions := Sessions}) ->
    lists:append([[{monitor, process, Pid}, timer(Pid, Number, ?LEASE)]
                  || {Pid, {Number, _}} <- lists:sort(maps:to_list(Sessions))]);
state_enter(_RaftState, _State) ->
    [].

%% @doc How much of each there is.
-spec overview(state()) -> #{atom() => non_neg_integer()}.
overview(#{rows := Rows, bytes := Bytes, sessions := Sessions, locks := Locks}) ->
    #{rows => map_size(Rows), bytes => Bytes, sessions => map_size(Sessions),
      locks => map_size(Locks)}.
