%% Whose turn it is on an HTTP/1 connection: a request's, the client's to send one, or nobody's.
%%
%%   client ──began/2──▶ request ──ended/1──▶ client ──cut/1──▶ nobody's
%%
%% The connection's process and the one that watches for late clients share it, so that no
%% request is begun on a connection that is being cut. Requests overlap where a client does not
%% wait for answers (pipelining). After the last request the client gets no turn any more.
-module(hornbeam_turn).

-export([new/0, began/2, ended/1, cut/1, is_clients/1, last/2, is_last/2]).
-export_type([turn/0]).

-opaque turn() :: atomics:atomics_ref().

%% Places in the array.
-define(WHOSE, 1).
-define(REQUESTS, 2).
-define(LAST, 3).

-define(REQUEST, 0).
-define(CLIENT, 1).
-define(NOBODY, 2).

%% How many requests one client may have sent before it reads the answers.
-define(MOST, 1000).

%% @doc A connection's turn; it begins with a request.
-spec new() -> turn().
new() ->
    atomics:new(3, []).

%% @doc Begin a request, unless the connection has had its last one.
-spec began(pos_integer(), turn()) -> go | too_late.
began(Number, Turn) ->
    case atomics:get(Turn, ?LAST) of
        Last when Last > 0, Number > Last -> too_late;
        _ -> take(atomics:compare_exchange(Turn, ?WHOSE, ?CLIENT, ?REQUEST), Number, Turn)
    end.

take(?NOBODY, _Number, _Turn) ->
    too_late;
take(_, Number, Turn) ->
    case atomics:add_get(Turn, ?REQUESTS, 1) of
        ?MOST -> last(Number, Turn);
        _ -> ok
    end,
    go.

%% @doc End a request; says whether the turn is the client's now.
-spec ended(turn()) -> boolean().
ended(Turn) ->
    case atomics:sub_get(Turn, ?REQUESTS, 1) of
        0 ->
            ok = atomics:put(Turn, ?WHOSE, ?CLIENT),
            true;
        _ ->
            false
    end.

%% @doc Take the client's turn away, for good; false when a request has it.
-spec cut(turn()) -> boolean().
cut(Turn) ->
    atomics:compare_exchange(Turn, ?WHOSE, ?CLIENT, ?NOBODY) =:= ok.

%% @doc Whether the client is to send something.
-spec is_clients(turn()) -> boolean().
is_clients(Turn) ->
    atomics:get(Turn, ?WHOSE) =:= ?CLIENT.

%% @doc Let no request follow this one.
-spec last(pos_integer(), turn()) -> ok.
last(Number, Turn) ->
    atomics:put(Turn, ?LAST, Number).

%% @doc Whether no request follows this one.
-spec is_last(pos_integer(), turn()) -> boolean().
is_last(Number, Turn) ->
    atomics:get(Turn, ?LAST) =:= Number.
