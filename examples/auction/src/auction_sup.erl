%% What decides comes first, then the app that asks it.
-module(auction_sup).
-behaviour(supervisor).

-export([start_link/0]).
-export([init/1]).

-spec start_link() -> supervisor:startlink_ret().
start_link() ->
    supervisor:start_link({local, ?MODULE}, ?MODULE, []).

-spec init([]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init([]) ->
    ok = hornbeam:register_function(bid, fun auction_bids:bid/2),
    ok = hornbeam:register_function(highest, fun auction_bids:highest/0),
    Children = [
        #{id => auction_bids, start => {auction_bids, start_link, []}},
        hornbeam:child_spec("auction:app", #{chdir => code:priv_dir(auction)})
    ],
    {ok, {#{strategy => rest_for_one}, Children}}.
