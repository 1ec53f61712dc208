%% Removes state that is past its time. Nobody sees such rows any more; this frees their memory.
-module(hornbeam_state_sweeper).
-behaviour(gen_server).

-export([start_link/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

%% Between two looks, in milliseconds.
-define(PAUSE, 1000).

-spec start_link() -> gen_server:start_ret().
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @private
-spec init([]) -> {ok, none}.
init([]) ->
    sweep_later(),
    {ok, none}.

sweep_later() ->
    _ = erlang:send_after(?PAUSE, self(), sweep),
    ok.

%% @private
-spec handle_call(term(), gen_server:from(), none) -> {noreply, none}.
handle_call(_Request, _From, none) ->
    {noreply, none}.

%% @private
-spec handle_cast(term(), none) -> {noreply, none}.
handle_cast(_Request, none) ->
    {noreply, none}.

%% @private
-spec handle_info(term(), none) -> {noreply, none}.
handle_info(sweep, none) ->
    hornbeam_state_rows:sweep(),
    sweep_later(),
    {noreply, none};
handle_info(_Stray, none) ->
    {noreply, none}.
