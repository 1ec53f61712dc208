%% The listener of those who operate the server, apart from that of its clients.
%%
%% Nothing of the apps is reached by it and no client reaches it, unless its address is made
%% public. It opens before the apps start and shuts once they have ended, so that both can be
%% watched; when it crashes the next one listens anew.
-module(hornbeam_operations_listener).
-behaviour(gen_server).

-export([start_link/2, info/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-define(REF, hornbeam_operations).

%% Some scrapers and some people; the next ones wait in the system's line.
-define(MAX_CONNECTIONS, 128).

%% @doc Listen, and serve the routes of {@link hornbeam_operations:routes/2}.
-spec start_link(hornbeam_operations:address(), [{string(), module(), term()}]) ->
    gen_server:start_ret().
start_link(Address, Routes) ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, {Address, Routes}, []).

%% @doc Where it listens; empty when it does not.
-spec info() -> #{operations => hornbeam_operations:address()}.
info() ->
    case hornbeam_transport:is_listening(?REF) of
        true -> #{operations => hornbeam_transport:address(?REF)};
        false -> #{}
    end.

%% @private
-spec init({hornbeam_operations:address(), [{string(), module(), term()}]}) ->
    {ok, none} | {stop, {shutdown, {operations, hornbeam_operations:address(), term()}}}.
init({Address, Routes}) ->
    process_flag(trap_exit, true),
    %% What a predecessor has left that was killed may be another server's.
    hornbeam_transport:stop_listener(?REF),
    case listen(Address, Routes) of
        {ok, _} -> {ok, none};
        {error, Reason} ->
            {stop, {shutdown, {operations, Address, hornbeam_transport:posix(Reason)}}}
    end.

listen({Ip, Port}, Routes) ->
    cowboy:start_clear(?REF, #{max_connections => ?MAX_CONNECTIONS, num_acceptors => 2,
                               socket_opts => family(Ip) ++ [{ip, Ip}, {port, Port}]},
                       #{env => #{dispatch => cowboy_router:compile([{'_', Routes}])},
                         stream_handlers => [hornbeam_operations_stream, cowboy_stream_h]}).

family(Ip) when tuple_size(Ip) =:= 8 -> [inet6];
family(_Ip) -> [].

%% @private
-spec handle_call(term(), gen_server:from(), none) -> {noreply, none}.
handle_call(_Request, _From, State) ->
    {noreply, State}.

%% @private
-spec handle_cast(term(), none) -> {noreply, none}.
handle_cast(_Request, State) ->
    {noreply, State}.

%% @private
-spec handle_info(term(), none) -> {noreply, none}.
handle_info(_Stray, State) ->
    {noreply, State}.

%% @private
-spec terminate(term(), none) -> ok.
terminate(_Reason, _State) ->
    hornbeam_transport:stop_listener(?REF).
