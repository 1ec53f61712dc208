%% What the web room counts since the server's start, without a process.
-module(hornbeam_counters).

-export([new/0, add/2, values/1]).
-export_type([ref/0, name/0]).

-opaque ref() :: counters:counters_ref().
-type name() :: http_requests | websockets | refused | no_worker | timeouts.

%% @doc All counters at zero.
-spec new() -> ref().
new() ->
    counters:new(length(names()), [write_concurrency]).

%% @doc Count one.
-spec add(name(), ref()) -> ok.
add(Name, Ref) ->
    counters:add(Ref, index(Name), 1).

%% @doc The values now.
-spec values(ref()) -> #{name() => non_neg_integer()}.
values(Ref) ->
    maps:from_list([{Name, counters:get(Ref, index(Name))} || Name <- names()]).

names() -> [http_requests, websockets, refused, no_worker, timeouts].

index(http_requests) -> 1;
index(websockets) -> 2;
index(refused) -> 3;
index(no_worker) -> 4;
index(timeouts) -> 5.
