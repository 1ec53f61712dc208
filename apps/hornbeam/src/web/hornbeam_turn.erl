%% Whose turn it is on an HTTP/1 connection: a request's, the client's to send one, or nobody's.
%%
%%   client ──began/2──▶ request ──ended/2──▶ client ──cut/2──▶ nobody's
%%
%% The connection's process and the one that watches for late clients share it, so that no
%% request is begun on a connection that is being cut. Requests overlap where a client does not
%% wait for answers (pipelining). After the last request the client gets no turn any more.
%%
%% With the client's turn goes what is needed to tell how long it is silent: since when it has the
%% turn, which is also what tells one of its turns from another, and what had come from it by then.
-module(hornbeam_turn).

-export([new/0, began/2, ended/2, since/1, received/1, cut/2, last/2, is_last/2]).
-export_type([turn/0]).

-opaque turn() :: atomics:atomics_ref().

%% Places in the array.
-define(WHOSE, 1).
-define(REQUESTS, 2).
-define(LAST, 3).
-define(RECEIVED, 4).

%% Whose: since when it is the client's (monotonic time, ms), or one of these.
-define(REQUEST, (1 bsl 62)).
-define(NOBODY, (1 bsl 62 + 1)).

%% How many requests one client may have sent before it reads the answers.
-define(MOST, 1000).

%% @doc A connection's turn; it begins with a request.
-spec new() -> turn().
new() ->
    Turn = atomics:new(4, []),
    ok = atomics:put(Turn, ?WHOSE, ?REQUEST),
    Turn.

%% @doc Begin a request, unless the connection has had its last one.
-spec began(pos_integer(), turn()) -> go | too_late.
began(Number, Turn) ->
    case atomics:get(Turn, ?LAST) of
        Last when Last > 0, Number > Last -> too_late;
        _ -> take(atomics:get(Turn, ?WHOSE), Number, Turn)
    end.

take(?NOBODY, _Number, _Turn) ->
    too_late;
take(Since, Number, Turn) when Since =/= ?REQUEST ->
    case atomics:compare_exchange(Turn, ?WHOSE, Since, ?REQUEST) of
        ok -> take(?REQUEST, Number, Turn);
        Changed -> take(Changed, Number, Turn)
    end;
take(?REQUEST, Number, Turn) ->
    case atomics:add_get(Turn, ?REQUESTS, 1) of
        ?MOST -> last(Number, Turn);
        _ -> ok
    end,
    go.

%% @doc End a request. Says whether the client has a turn now, and whether it is its first.
-spec ended(hornbeam_connection:socket(), turn()) -> first_turn | turn | no_turn.
ended(Socket, Turn) ->
    case atomics:sub_get(Turn, ?REQUESTS, 1) of
        0 ->
            Before = atomics:exchange(Turn, ?RECEIVED, hornbeam_connection:received(Socket)),
            ok = atomics:put(Turn, ?WHOSE, erlang:monotonic_time(millisecond)),
            which(Before);
        _ ->
            no_turn
    end.

which(0) -> first_turn;
which(_Received) -> turn.

%% @doc Since when it is the client's turn (monotonic time, ms), if it is.
-spec since(turn()) -> integer() | no_turn.
since(Turn) ->
    case atomics:get(Turn, ?WHOSE) of
        Whose when Whose =:= ?REQUEST; Whose =:= ?NOBODY -> no_turn;
        Since -> Since
    end.

%% @doc How many bytes had come from the client when it got the turn.
-spec received(turn()) -> non_neg_integer().
received(Turn) ->
    atomics:get(Turn, ?RECEIVED).

%% @doc Take away the turn that the client has had since then, for good; false when it is over.
-spec cut(Since :: integer(), turn()) -> boolean().
cut(Since, Turn) ->
    atomics:compare_exchange(Turn, ?WHOSE, Since, ?NOBODY) =:= ok.

%% @doc Let no request follow this one.
-spec last(pos_integer(), turn()) -> ok.
last(Number, Turn) ->
    atomics:put(Turn, ?LAST, Number).

%% @doc Whether no request follows this one.
-spec is_last(pos_integer(), turn()) -> boolean().
is_last(Number, Turn) ->
    atomics:get(Turn, ?LAST) =:= Number.
