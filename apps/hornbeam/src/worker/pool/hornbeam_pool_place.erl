%% A place for a new stream on a worker of a pool: taken at once, or waited for.
%%
%%   reserve ──one has room──▶ (settle) ──▶ a place
%%      │ none has                │ its session has another worker by now: again
%%      ▼                         │
%%   waiting ──given──────────────┘
%%      │ late, too many, no worker
%%      ▼
%%   an error
%%
%% Who needs a place reads the pool's row and reserves one; only who finds none enters the line
%% (hornbeam_pool_waiting), where hornbeam_pool_dispatcher serves him. Which worker it is to be is
%% hornbeam_pool_balancer's question and, of a request of a session, hornbeam_pool_affinity's.
-module(hornbeam_pool_place).

-export([reserve/3, reserve_now/3, wait/3, line_up/2, handle_info/3, cancel/1, drop_copy/0]).
-export_type([wait/0, session/0]).

-type session() :: none | hornbeam_pool_affinity:affinity().
%% `none' where a pool has no affinity at all.

-record(sought, {
    pool :: hornbeam_pool:name(),
    session :: session(),
    %% whether it may only be had by the line, which watches over it
    is_watched :: boolean()
}).
-opaque wait() :: {reference(), #sought{}}.

-type result() ::
    {ok, hornbeam_capacity:handle()} | {wait, wait()} | {error, hornbeam_pool:reason()}.

%% @doc A place for a new stream on the ready worker with the least open streams, or on that of its
%% session, unless there are too many.
%%
%% When no worker has room the calling process is in the pool's line, at most `queue_timeout', and
%% gives each message that comes to {@link handle_info/3}. A place that was given is to be used at
%% once or given back.
-spec reserve(hornbeam_pool:name(), session(), hornbeam_pool:limit()) -> result().
reserve(Name, Session, Limit) ->
    seek(#sought{pool = Name, session = Session, is_watched = false}, Limit).

%% @doc The same by the pool's line, for a process that may die before it has used it.
-spec wait(hornbeam_pool:name(), session(), hornbeam_pool:limit()) -> result().
wait(Name, Session, Limit) ->
    seek(#sought{pool = Name, session = Session, is_watched = true}, Limit).

seek(#sought{pool = Name} = Sought, Limit) ->
    case hornbeam_pool_row:recall(Name) of
        {ok, Row} -> seek(wish(Sought, Row), Sought, Limit, Row);
        error -> {error, no_worker}
    end.

seek(Wish, #sought{is_watched = true} = Sought, Limit, Row) ->
    wait_within(Wish, Sought, Limit, Row);
seek(Wish, Sought, Limit, Row) ->
    case take_now(Wish, Row) of
        {ok, Handle} -> settled(still_within(Limit, Handle, Row), Sought, Limit, Row);
        none -> wait_within(Wish, Sought, Limit, Row)
    end.

wish(#sought{session = none}, _Row) ->
    any_worker;
wish(#sought{pool = Name, session = Session}, Row) ->
    hornbeam_pool_affinity:candidates(Session, Name, hornbeam_pool_row:handles(Row)).

%% Who waits is not overtaken.
take_now({its, Handle}, _Row) ->
    case hornbeam_capacity:is_kept(Handle) of
        true -> none;
        false -> hornbeam_pool_balancer:reserve_first([Handle], fun hornbeam_capacity:reserve/1)
    end;
take_now(Wish, Row) ->
    case hornbeam_pool_row:is_waited_for(Row) of
        true -> none;
        false -> take_one(Wish, Row, fun hornbeam_capacity:reserve/1)
    end.

take_one(any_worker, Row, Reserve) ->
    hornbeam_pool_balancer:reserve(hornbeam_pool_row:handles(Row), Reserve);
take_one({one_of, Handles}, _Row, Reserve) ->
    hornbeam_pool_balancer:reserve_first(Handles, Reserve).

%% Others of the same session may have got a place on another worker at the same time.
settled({ok, Handle}, #sought{session = none}, _Limit, _Row) ->
    {ok, Handle};
settled({ok, Handle}, #sought{pool = Name, session = Session} = Sought, Limit, Row) ->
    case hornbeam_pool_affinity:settle(Session, Handle, Name, hornbeam_pool_row:handles(Row)) of
        ok ->
            {ok, Handle};
        elsewhere ->
            hornbeam_capacity:give_back(Handle),
            seek(Sought, Limit)
    end;
settled({error, _} = Error, _Sought, _Limit, _Row) ->
    Error.

%% @doc The same, unless one would have to wait.
-spec reserve_now(hornbeam_pool:name(), session(), hornbeam_pool:limit()) ->
    {ok, hornbeam_capacity:handle()} | none.
reserve_now(Name, Session, Limit) ->
    case hornbeam_pool_row:find(Name) of
        {ok, Row} ->
            Sought = #sought{pool = Name, session = Session, is_watched = false},
            taken_now(take_now(wish(Sought, Row), Row), Sought, Limit, Row);
        error ->
            none
    end.

taken_now({ok, Handle}, Sought, Limit, Row) ->
    case settled(still_within(Limit, Handle, Row), Sought, Limit, Row) of
        {ok, Taken} -> {ok, Taken};
        {wait, Wait} -> cancel(Wait), none;
        {error, _} -> none
    end;
taken_now(none, _Sought, _Limit, _Row) ->
    none.

%% Others may have come at the same time.
still_within(infinity, Handle, _Row) ->
    {ok, Handle};
still_within({Max, Others}, Handle, Row) ->
    case in_progress(Row, Others) =< Max of
        true ->
            {ok, Handle};
        false ->
            hornbeam_capacity:give_back(Handle),
            {error, full}
    end.

wait_within(Wish, Sought, Limit, Row) ->
    case is_full(Limit, Row) of
        true -> {error, full};
        false -> {wait, enter(Wish, Sought)}
    end.

is_full(infinity, _Row) -> false;
is_full({Max, Others}, Row) -> in_progress(Row, Others) >= Max.

in_progress(Row, Others) ->
    lists:sum([hornbeam_pool_row:in_progress(Each)
               || Each <- [Row | [Other || Name <- Others,
                                           {ok, Other} <- [hornbeam_pool_row:find(Name)]]]]).

%% @doc Wait for a place, however many streams there are: for one that goes on with another worker.
%%
%% The calling process gets a message for {@link handle_info/3}, at the latest after
%% `queue_timeout'. No crash in the pool changes anything of that. A process that dies waits no
%% longer.
-spec line_up(hornbeam_pool:name(), session()) -> wait().
line_up(Name, Session) ->
    Sought = #sought{pool = Name, session = Session, is_watched = true},
    case hornbeam_pool_row:find(Name) of
        {ok, Row} -> enter(wish(Sought, Row), Sought);
        error -> enter(any_worker, Sought)
    end.

enter(Wish, #sought{pool = Name, session = Session} = Sought) ->
    Ref = hornbeam_pool_waiting:enter(Name, in_line(Wish, Session)),
    %% Looked up only now: a process that began before that has read the line or is told.
    case hornbeam_pool_row:find(Name) of
        {ok, Row} -> hornbeam_pool_dispatcher:wait(hornbeam_pool_row:dispatcher(Row), Ref);
        error -> hornbeam_pool_waiting:answer(Ref, {error, no_worker})
    end,
    {Ref, Sought}.

in_line({its, _} = Its, _Session) -> Its;
in_line(any_worker, _Session) -> any;
in_line({one_of, _}, Session) -> Session.

%% @doc A message to the process that waits.
-spec handle_info(term(), wait(), hornbeam_pool:limit()) -> result().
handle_info({hornbeam_pool, Ref, {ok, Handle}}, {Ref, #sought{pool = Name} = Sought}, Limit) ->
    case hornbeam_pool_row:find(Name) of
        {ok, Row} -> settled(still_within(Limit, Handle, Row), Sought, Limit, Row);
        error -> {ok, Handle}
    end;
handle_info({hornbeam_pool, Ref, {error, gone}}, {Ref, Sought}, Limit) ->
    seek(Sought, Limit);
handle_info({hornbeam_pool, Ref, {error, Why}}, {Ref, _Sought}, _Limit) ->
    {error, Why};
handle_info(_Other, Wait, _Limit) ->
    {wait, Wait}.

%% @doc Wait no longer: nothing comes any more, and a place that was given is given back.
-spec cancel(wait()) -> ok.
cancel({Ref, #sought{pool = Name}}) ->
    hornbeam_pool_waiting:leave(Ref, Name),
    case hornbeam_pool_row:find(Name) of
        {ok, Row} -> hornbeam_pool_dispatcher:forget(hornbeam_pool_row:dispatcher(Row), Ref);
        error -> hornbeam_pool_waiting:strike(Ref)
    end.

%% @doc The calling process, which has asked for places, does not for a while: it gives back what it
%% keeps for that.
-spec drop_copy() -> ok.
drop_copy() ->
    hornbeam_pool_row:forget().
