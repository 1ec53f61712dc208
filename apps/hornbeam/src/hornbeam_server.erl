%% The life of a server: it ends with the application, in whoever's tree it stands, and at its end
%% nothing is known of its pools any more.
%%
%% The first of the server's processes, and the last to go.
-module(hornbeam_server).
-behaviour(gen_server).

-export([start_link/0, forget_pools/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-spec start_link() -> gen_server:start_ret().
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @doc Forget what the tables know of pools that are no more.
-spec forget_pools() -> ok.
forget_pools() ->
    lists:foreach(fun hornbeam_pool:erase/1, hornbeam_pool:all()).

%% @private
-spec init([]) -> {ok, reference()}.
init([]) ->
    process_flag(trap_exit, true),
    {ok, erlang:monitor(process, hornbeam_sup)}.

%% @private
-spec handle_call(term(), gen_server:from(), reference()) -> {noreply, reference()}.
handle_call(_Request, _From, Root) ->
    {noreply, Root}.

%% @private
-spec handle_cast(term(), reference()) -> {noreply, reference()}.
handle_cast(_Request, Root) ->
    {noreply, Root}.

%% The tables are gone with the application: nothing can go on.
%% @private
-spec handle_info(term(), reference()) ->
    {noreply, reference()} | {stop, {shutdown, no_application}, reference()}.
handle_info({'DOWN', Root, process, _, _}, Root) ->
    {stop, {shutdown, no_application}, Root};
handle_info(_Stray, Root) ->
    {noreply, Root}.

%% @private
-spec terminate(term(), reference()) -> ok.
terminate(shutdown, _Root) ->
    ok = hornbeam_rpc:offer_nothing(),
    forget_pools();
terminate(_Reason, _Root) ->
    hornbeam_rpc:offer_nothing().
