%% Tells those of this node who watch a topic who is present there: the process beside
%% hornbeam_presence_server, which goes on meanwhile.
%%
%% It gets all that has changed until now, and says when it is ready for more: after a pause in
%% which changes gather, which is longer where many have to be told.
-module(hornbeam_presence_announcer).
-behaviour(gen_server).

-export([start_link/1, diffs/2, states/2]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-type topic() :: hornbeam_presence_rows:topic().

%% The shortest pause (ms).
-define(GATHER, 50).

%% @doc Start it; the server gets `announced' when it is ready.
-spec start_link(Server :: pid()) -> {ok, pid()}.
start_link(Server) ->
    {ok, _} = gen_server:start_link(?MODULE, Server, []).

%% @doc Tell of changes.
-spec diffs(pid(), #{topic() => [hornbeam_presence_message:change()]}) -> ok.
diffs(Announcer, Topics) ->
    gen_server:cast(Announcer, {diffs, Topics}).

%% @doc Tell who is present, whatever was told before.
-spec states(pid(), [topic()]) -> ok.
states(Announcer, Topics) ->
    gen_server:cast(Announcer, {states, Topics}).

%% @private
-spec init(pid()) -> {ok, pid()}.
init(Server) ->
    {ok, Server}.

%% @private
-spec handle_call(term(), gen_server:from(), pid()) -> {noreply, pid()}.
handle_call(_Request, _From, Server) ->
    {noreply, Server}.

%% @private
-spec handle_cast(tuple(), pid()) -> {noreply, pid()}.
handle_cast(Order, Server) ->
    {Time, ok} = timer:tc(fun() -> publish(Order) end),
    _ = erlang:send_after(max(?GATHER, Time div 1000), Server, announced),
    {noreply, Server}.

publish({diffs, Topics}) ->
    maps:foreach(fun(Topic, Changes) ->
        lists:foreach(fun(Diff) -> publish(Topic, Diff) end,
                      hornbeam_presence_message:diffs(Topic, Changes))
    end, Topics);
publish({states, Topics}) ->
    lists:foreach(fun(Topic) ->
        Members = hornbeam_presence_rows:members(Topic),
        publish(Topic, hornbeam_presence_message:state(Topic, Members))
    end, Topics).

%% A process may not know an atom of another node's meta.
publish(Topic, Packed) ->
    Name = hornbeam_presence_message:topic(Topic),
    case hornbeam_pubsub:publish_here(Name, {packed, Packed}) of
        {ok, _} -> ok;
        {error, _} -> hornbeam_pubsub_fanout:count_loss(unreadable)
    end.

%% @private
-spec handle_info(term(), pid()) -> {noreply, pid()}.
handle_info(_Stray, Server) ->
    {noreply, Server}.
