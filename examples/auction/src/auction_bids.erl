%% The highest bid. Bids come from all workers, and one after the other here.
-module(auction_bids).
-behaviour(gen_server).

-export([start_link/0, bid/2, highest/0]).
-export([init/1, handle_call/3, handle_cast/2]).

-type bid() :: #{bidder := binary(), amount := non_neg_integer()}.

-spec start_link() -> gen_server:start_ret().
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @doc Bid; called by the app as "bid". Who watches hears of a bid that counts.
-spec bid(Bidder :: binary(), Amount :: pos_integer()) -> {ok, bid()} | {error, {too_low, bid()}}.
bid(Bidder, Amount) ->
    gen_server:call(?MODULE, #{bidder => Bidder, amount => Amount}).

%% @doc The highest bid so far; called by the app as "highest".
-spec highest() -> bid().
highest() ->
    gen_server:call(?MODULE, highest).

-spec init([]) -> {ok, bid()}.
init([]) ->
    {ok, #{bidder => <<"nobody">>, amount => 0}}.

-spec handle_call(highest | bid(), gen_server:from(), bid()) -> {reply, term(), bid()}.
handle_call(highest, _From, Highest) ->
    {reply, Highest, Highest};
handle_call(#{amount := Amount} = Bid, _From, #{amount := Highest}) when Amount > Highest ->
    _ = hornbeam:publish(bids, Bid),
    {reply, {ok, Bid}, Bid};
handle_call(_Bid, _From, Highest) ->
    {reply, {error, {too_low, Highest}}, Highest}.

-spec handle_cast(term(), bid()) -> {noreply, bid()}.
handle_cast(_Request, Highest) ->
    {noreply, Highest}.
