%% What two nodes say first: who speaks, which protocol, and of which cluster. Pure.
%%
%% It is a map, so that a later version may say more; what is not known in it is passed over. Both
%% speak the highest version that both know. docs/internals.md, "Between nodes", lists the keys.
-module(hornbeam_link_hello).

-export([new/1, check/2]).
-export_type([hello/0, refusal/0]).

-type hello() :: #{
    version := pos_integer(),
    oldest := pos_integer(),
    cluster := binary(),
    incarnation := integer(),
    release := string(),
    rooms := #{Room :: atom() => Joined :: integer()},
    capabilities := [atom()],
    link := pid()
}.
%% `version' and `oldest': the protocols that it speaks, from one to the other. `rooms': its parts
%% that have something to say, with a number that is another each time one begins anew.

-type refusal() :: not_understood
                 | {version, Spoken :: {Oldest :: pos_integer(), Newest :: pos_integer()}}
                 | {cluster, Name :: binary()}.

%% A test makes nodes of another version by other numbers.
-ifndef(VERSION).
-define(VERSION, 1).
-endif.
-define(OLDEST, 1).

%% @doc What this node says.
-spec new(#{cluster := binary(), incarnation := integer(), release := string(),
            rooms := #{atom() => integer()}, link := pid()}) -> hello().
new(Own) ->
    Own#{version => ?VERSION, oldest => ?OLDEST, capabilities => []}.

%% @doc Judge what another says: which protocol is spoken with it, if any.
-spec check(term(), Cluster :: binary()) ->
    {ok, Version :: pos_integer(), hello()} | {error, refusal()}.
check(#{version := Newest, oldest := Oldest, cluster := Name} = Hello, Cluster)
        when is_integer(Newest), is_integer(Oldest), is_binary(Name) ->
    case min(Newest, ?VERSION) of
        _ when Name =/= Cluster -> {error, {cluster, Name}};
        Version when Version >= Oldest, Version >= ?OLDEST -> spoken(Version, Hello);
        _ -> {error, {version, {Oldest, Newest}}}
    end;
check(_Other, _Cluster) ->
    {error, not_understood}.

spoken(Version, #{incarnation := Incarnation, rooms := Rooms, link := Link} = Hello)
        when is_integer(Incarnation), is_map(Rooms), is_pid(Link) ->
    {ok, Version, maps:merge(#{capabilities => []}, Hello#{release => release(Hello)})};
spoken(_Version, _Hello) ->
    {error, not_understood}.

%% It is only shown.
release(#{release := Release}) ->
    case io_lib:printable_unicode_list(Release) of
        true -> Release;
        false -> ""
    end;
release(#{}) ->
    "".
