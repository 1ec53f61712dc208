%% What the other nodes of the cluster call here, and what they are told that they may.
%%
%% The process of this module tells its peers which functions and hooks there are: a change when it
%% comes, and all to who is new or has missed something. It serves no call: each has a process of
%% its own (hornbeam_link_calls), in which is checked what would be checked of a call from here.
%%
%% When the node stops it offers nothing any more, and what it serves has a while to end.
-module(hornbeam_call_service).
-behaviour(gen_server).

-include_lib("kernel/include/logger.hrl").

-export([start_link/0, heard/1, serve/2]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-record(state, {
    %% what the peers have been told of
    told = #{} :: #{hornbeam_call_peers:offer() => []}
}).

%% How long (ms) calls that are being served are waited for at the end, and how often it is looked.
-define(PATIENCE, 2000).
-define(LOOK, 10).

-spec start_link() -> gen_server:start_ret().
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @private
%% In the process that hears the peer.
-spec heard(hornbeam_links:event()) -> ok.
heard(Event) ->
    hornbeam_link_calls:heard(Event, {hornbeam_call_peers:room(), {?MODULE, serve}},
                              fun(Peer, Note) -> tell({note, Peer, Note}) end),
    tell_of(Event).

tell_of({hornbeam_link, message, _, _}) -> ok;
tell_of(Event) -> tell(Event).

tell(Message) ->
    case whereis(?MODULE) of
        undefined -> ok;
        Pid -> Pid ! Message, ok
    end.

%% @private
-spec init([]) -> {ok, #state{}}.
init([]) ->
    _ = process_flag(trap_exit, true),
    Peers = hornbeam_links:join(hornbeam_call_peers:room(), self(), fun ?MODULE:heard/1),
    hornbeam_call_peers:keep(Peers),
    State = #state{told = maps:from_keys(offers(), [])},
    lists:foreach(fun(Peer) -> tell_all(Peer, State) end, Peers),
    {ok, State}.

offers() ->
    [{function, Name} || Name <- hornbeam_functions:names()]
        ++ [{hook, Name} || Name <- hornbeam_hooks:names()].

%% @private
-spec handle_call(term(), gen_server:from(), #state{}) -> {noreply, #state{}}.
handle_call(_Request, _From, State) ->
    {noreply, State}.

%% @private
-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Request, State) ->
    {noreply, State}.

%% @private
-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info({changed, Offer}, #state{told = Told} = State) ->
    {noreply, changed(is_offered(Offer), is_map_key(Offer, Told), Offer, State)};
handle_info({note, Peer, Note}, State) ->
    note(Note, Peer),
    {noreply, State};
handle_info({hornbeam_link, down, Peer}, State) ->
    hornbeam_call_peers:forget(Peer),
    {noreply, State};
handle_info({hornbeam_link, _UpOrLost, Peer}, State) ->
    tell_all(Peer, State),
    {noreply, State};
handle_info(_Stray, State) ->
    {noreply, State}.

is_offered({function, Name}) -> hornbeam_functions:is_registered(Name);
is_offered({hook, Name}) -> hornbeam_hooks:is_registered(Name).

changed(Same, Same, _Offer, State) ->
    State;
changed(true, false, Offer, #state{told = Told} = State) ->
    tell_peers({offer, Offer, true}),
    State#state{told = Told#{Offer => []}};
changed(false, true, Offer, #state{told = Told} = State) ->
    tell_peers({offer, Offer, false}),
    State#state{told = maps:remove(Offer, Told)}.

tell_peers(Note) ->
    Room = hornbeam_call_peers:room(),
    lists:foreach(fun(Peer) -> hornbeam_link_calls:note(Peer, Room, Note) end,
                  hornbeam_links:peers(Room)).

%% What does not fit is told again when there is room.
tell_all(Peer, #state{told = Told}) ->
    _ = hornbeam_link_calls:note(Peer, hornbeam_call_peers:room(), {offers, maps:keys(Told)}),
    ok.

note({offer, Offer, IsOffered}, Peer) when is_boolean(IsOffered) ->
    hornbeam_call_peers:set(Peer, Offer, IsOffered);
%% (It may be no proper list.)
note({offers, Offers}, Peer) when length(Offers) >= 0 ->
    hornbeam_call_peers:set_all(Peer, Offers);
note(_OfALaterVersion, _Peer) ->
    ok.

%% @private
-spec terminate(term(), #state{}) -> ok.
terminate(_Reason, _State) ->
    tell_peers({offers, []}),
    await_ends(erlang:monotonic_time(millisecond) + ?PATIENCE).

await_ends(Deadline) ->
    IsOver = hornbeam_link_calls:serving(hornbeam_call_peers:room()) =:= 0
        orelse erlang:monotonic_time(millisecond) >= Deadline,
    case IsOver of
        true -> ok;
        false -> receive after ?LOOK -> await_ends(Deadline) end
    end.

%% Calls, in a process of their own.

%% @private
-spec serve(hornbeam_link_calls:served(), hornbeam_call_peers:question()) -> ok.
serve(Served, {function, Name, Packed, Timeout}) ->
    answer(Served, holding([{packed, Packed}], fun() ->
        hornbeam_functions:call_packed(Name, Packed, Timeout)
    end));
serve(_Served, {cast, Name, Packed}) ->
    case hornbeam_functions:cast_packed(Name, Packed) of
        ok -> ok;
        {error, Why} -> ?LOG_WARNING(#{what => cast_of_a_node_failed, function => Name, why => Why},
                                     #{domain => [hornbeam]})
    end;
serve(Served, {hook, Name, Action, Args, Kwargs, Timeout}) ->
    answer(Served, holding([Args, Kwargs], fun() ->
        hook(hornbeam_hooks:target(Name, peer), Served, {Name, Action, Args, Kwargs}, Timeout)
    end));
serve(Served, {stream, Name, Action, Args, Kwargs}) ->
    hornbeam_link_calls:may_be_ended(Served),
    Start = fun() -> hornbeam_hook_stream:start(self(), peer, Name, Action, Args, Kwargs) end,
    case encoding(Start) of
        {ok, Id} -> items(Served, Id);
        {error, _} = Error -> answer(Served, Error)
    end.

%% What waits for a call's end counts, as that of a worker's op does.
holding(Values, Call) ->
    Bytes = lists:sum(lists:map(fun hornbeam_value:bytes/1, Values)),
    case hornbeam_call_args:hold(self(), Bytes) of
        ok -> Call();
        {error, _} = Error -> Error
    end.

hook({ok, Target}, Served, {Name, Action, Args, Kwargs}, Timeout) ->
    %% The worker hears of the end of who calls it. Erlang's handlers end by themselves.
    _ = [hornbeam_link_calls:may_be_ended(Served) || {worker, _} <- [Target]],
    encoding(fun() -> hornbeam_hooks:run_on(Target, Name, Action, Args, Kwargs, Timeout) end);
hook({error, _} = Error, _Served, _Call, _Timeout) ->
    Error.

%% Who calls is told at his line what cannot travel.
encoding(Call) ->
    try
        Call()
    catch
        error:{unencodable, _, _} = Unencodable -> {error, Unencodable}
    end.

answer(Served, {error, Why}) when Why =:= no_hook; Why =:= unknown ->
    hornbeam_link_calls:answer(Served, not_here);
answer(Served, Outcome) ->
    hornbeam_link_calls:answer(Served, {answer, Outcome}).

items(Served, Id) ->
    Items = hornbeam_hook_stream:next(Id, infinity),
    answer(Served, Items),
    case Items of
        {ok, [_ | _]} ->
            next = hornbeam_link_calls:await_more(Served),
            items(Served, Id);
        _ExhaustedOrFailed ->
            ok
    end.
