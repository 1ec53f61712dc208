%% When a worker has done enough and another is to take its place. Pure.
%%
%% Each worker draws its own limits from the options when it starts, so that those that started
%% together do not end together.
-module(hornbeam_pool_recycling).

-export([limits/2, is_asked_for/1, verdict/2]).
-export_type([limits/0, facts/0]).

-record(limits, {
    requests :: pos_integer() | infinity,
    age :: pos_integer() | infinity,
    rss :: pos_integer() | infinity
}).
-opaque limits() :: #limits{}.

-type facts() :: #{requests := non_neg_integer(), age := non_neg_integer(),
                   rss := non_neg_integer() | undefined}.
%% Requests and messages together, milliseconds since it was ready, bytes.

%% A worker that is so many times as large as it may be is not waited for.
-define(FAR_TOO_LARGE, 2).

%% @doc The limits of one worker; `Draw' gives a number from 0 to its argument.
-spec limits(hornbeam_config:app_options(),
             Draw :: fun((non_neg_integer()) -> non_neg_integer())) -> limits().
limits(Options, Draw) ->
    #{max_requests := Requests, max_requests_jitter := RequestsJitter, worker_max_age := Age,
      worker_max_age_jitter := AgeJitter, worker_max_rss := Rss} = Options,
    #limits{requests = drawn(Requests, RequestsJitter, Draw), age = drawn(Age, AgeJitter, Draw),
            rss = Rss}.

drawn(infinity, _Jitter, _Draw) -> infinity;
drawn(Limit, Jitter, Draw) -> Limit + Draw(Jitter).

%% @doc Whether the options set any limit.
-spec is_asked_for(hornbeam_config:app_options()) -> boolean().
is_asked_for(#{max_requests := Requests, worker_max_age := Age, worker_max_rss := Rss}) ->
    [Requests, Age, Rss] =/= [infinity, infinity, infinity].

%% @doc What is to become of a worker. An atom is greater than every number, so `infinity' is
%% never reached.
-spec verdict(facts(), limits()) ->
    keep | {recycle, max_requests | worker_max_age | worker_max_rss} | kill.
verdict(#{rss := Rss}, #limits{rss = Limit})
        when is_integer(Rss), is_integer(Limit), Rss >= Limit * ?FAR_TOO_LARGE ->
    kill;
verdict(#{rss := Rss}, #limits{rss = Limit}) when is_integer(Rss), Rss >= Limit ->
    {recycle, worker_max_rss};
verdict(#{requests := Requests}, #limits{requests = Limit}) when Requests >= Limit ->
    {recycle, max_requests};
verdict(#{age := Age}, #limits{age = Limit}) when Age >= Limit ->
    {recycle, worker_max_age};
verdict(_Facts, _Limits) ->
    keep.
