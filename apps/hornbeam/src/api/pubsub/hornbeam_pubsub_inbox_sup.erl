%% The inboxes for what is published on other nodes, and the room of that.
-module(hornbeam_pubsub_inbox_sup).
-behaviour(supervisor).

-include("hornbeam_pubsub.hrl").

-export([start_link/0]).
-export([init/1]).

%% @doc Start them; from then on peers may send what is published there.
-spec start_link() -> {ok, pid()}.
start_link() ->
    {ok, Pid} = supervisor:start_link({local, ?MODULE}, ?MODULE, []),
    _ = hornbeam_links:join(?PUBLISH_ROOM, Pid,
                            fun hornbeam_pubsub_inbox:heard/1),
    {ok, Pid}.

%% @private
-spec init([]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init([]) ->
    {ok, {#{strategy => one_for_one, intensity => 10, period => 10},
          [#{id => Number, start => {hornbeam_pubsub_inbox, start_link, [Number]}}
           || Number <- hornbeam_pubsub_inbox:numbers()]}}.
