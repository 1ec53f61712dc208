%% Metrics of apps: counters, gauges and histograms, of all workers and visitors together.
%%
%% What an op brings is added in the tables by whoever runs the op: whole numbers by update_counter,
%% others by comparing and swapping. A gauge may have a value for each process that has set it, of
%% which a scrape makes one; those go with the process. This process hears of its end, and of
%% nothing else.
-module(hornbeam_app_metrics).
-behaviour(gen_server).

-export([new_tables/0, start_link/0, enable/1, update/2, families/0, refused/0, plus/2]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).
-export_type([family/0]).

-type family() :: #{name := binary(), type := counter | gauge | histogram, help := binary(),
                    labels := [binary()], samples := [sample()]}.
-type sample() ::
    {Values :: [binary()], number()}
    | {Values :: [binary()], Buckets :: [{number() | infinity, non_neg_integer()}],
       Count :: non_neg_integer(), Sum :: number()}.

-type kind() :: counter | {gauge, mode()} | {histogram, Bounds :: [number()]}.
-type mode() :: sum | min | max | mostrecent.

%% Rows: {Name, {kind(), Help, Labels}, when it was last used (monotonic s)}.
-define(FAMILIES, hornbeam_metric_families).
%% Rows: {{Name, Values}}.
-define(SERIES, hornbeam_metric_series).
%% Rows: {Key, Number}. Keys: {Name, Values, Cell}, of which whole and other numbers have one each,
%% {bucket, N}, and {gauge, Owner} or gauge.
-define(NUMBERS, hornbeam_metric_numbers).

%% So many series there may be, of all apps: labels that anybody can make up would fill the node.
-define(MOST_SERIES, 10000).

%% A family may be defined otherwise once nobody has used it for so long (s): code that is loaded
%% anew runs beside the one before.
-define(ABANDONED, 60).

%% Whether anything is kept, how many series there are, and how often there was no room or another
%% definition: an atomics of three.
-define(STATE, ?MODULE).
-define(ENABLED, 1).
-define(COUNT, 2).
-define(REFUSED, 3).

%% So many families, with or without a series, and bytes of what one says of itself.
-define(MOST_FAMILIES, 10000).
-define(LONGEST_HELP, 4096).

%% @doc Make the tables; their owner must outlive everybody.
-spec new_tables() -> ok.
new_tables() ->
    ?FAMILIES = ets:new(?FAMILIES, [named_table, public, ordered_set, {read_concurrency, true}]),
    ?SERIES = ets:new(?SERIES, [named_table, public, ordered_set, {read_concurrency, true}]),
    ?NUMBERS = ets:new(?NUMBERS, [named_table, public, {write_concurrency, true}]),
    persistent_term:put(?STATE, atomics:new(3, [{signed, true}])).

-spec start_link() -> gen_server:start_ret().
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @doc Keep what comes from now on, anew, or nothing.
-spec enable(boolean()) -> ok.
enable(IsEnabled) ->
    lists:foreach(fun ets:delete_all_objects/1, [?FAMILIES, ?SERIES, ?NUMBERS]),
    atomics:put(state(), ?COUNT, 0),
    atomics:put(state(), ?REFUSED, 0),
    atomics:put(state(), ?ENABLED, maps:get(IsEnabled, #{true => 1, false => 0})).

state() -> persistent_term:get(?STATE).

%% @doc Add what a process has counted: a list of families, each `[Kind, Name, Help, Labels,
%% Options, Samples]' (docs/wire.md).
-spec update(Families :: term(), Owner :: pid()) -> ok | {error, {bad_metric, iodata()}}.
update(Families, Owner) ->
    case atomics:get(state(), ?ENABLED) of
        1 -> update_all(Families, Owner);
        0 -> ok
    end.

%% What is wrong with one family takes nothing from the others; the first fault is told.
update_all(Families, Owner) when is_list(Families) ->
    Faults = [Fault || Family <- Families, {error, _} = Fault <- [update_one(Family, Owner)]],
    hd(Faults ++ [ok]);
update_all(_None, _Owner) ->
    wrong(<<"?">>, "is no list of families").

update_one([Kind, Name, Help, Labels, Options, Samples], Owner) ->
    case defined(kind(Kind, Options), Name, Help, Labels) of
        {ok, Known} ->
            case add_samples(Samples, Known, Name, length(Labels), Owner) of
                ok -> ok;
                error -> wrong(Name, "has samples that are none")
            end;
        {error, Why} ->
            wrong(Name, Why)
    end;
update_one(_None, _Owner) ->
    wrong(<<"?">>, "is no family").

wrong(Name, Why) when is_binary(Name) -> {error, {bad_metric, [Name, " ", Why]}};
wrong(_Name, Why) -> wrong(<<"?">>, Why).

%% Definitions.

-spec kind(term(), term()) -> kind() | error.
kind(0, undefined) -> counter;
kind(1, Mode) when is_binary(Mode) -> mode(Mode);
kind(2, [_ | _] = Bounds) ->
    case lists:all(fun is_number/1, Bounds) andalso Bounds =:= lists:usort(Bounds) of
        true -> {histogram, Bounds};
        false -> error
    end;
kind(_Kind, _Options) -> error.

mode(<<"sum">>) -> {gauge, sum};
mode(<<"min">>) -> {gauge, min};
mode(<<"max">>) -> {gauge, max};
mode(<<"mostrecent">>) -> {gauge, mostrecent};
mode(_Other) -> error.

defined(error, _Name, _Help, _Labels) ->
    {error, "has no kind that there is"};
defined(Kind, Name, Help, Labels) ->
    Now = erlang:monotonic_time(second),
    case ets:lookup(?FAMILIES, Name) of
        [{Name, {Kind, _Help, Labels}, Now}] ->
            {ok, Kind};
        [{Name, {Kind, _Help, Labels}, _Before}] ->
            _ = ets:update_element(?FAMILIES, Name, {3, Now}),
            {ok, Kind};
        [{Name, _Other, Used}] when Now - Used < ?ABANDONED ->
            refuse(),
            {error, "is defined otherwise: by its kind, labels, buckets or mode"};
        Found ->
            _ = [forget(Name) || Found =/= []],
            new_family(is_definition(Name, Help, Labels), Kind, Name, Help, Labels, Now)
    end.

is_definition(Name, Help, Labels) ->
    is_binary(Help) andalso byte_size(Help) =< ?LONGEST_HELP
        andalso hornbeam_metric_name:is_name(Name)
        andalso not hornbeam_metric_name:is_reserved(Name)
        andalso is_list(Labels) andalso length(Labels) =< 32
        andalso lists:all(fun hornbeam_metric_name:is_label/1, Labels)
        andalso not lists:member(<<"le">>, Labels)
        andalso length(lists:usort(Labels)) =:= length(Labels).

new_family(false, _Kind, _Name, _Help, _Labels, _Now) ->
    {error, "has a name or a label that is none, one of the server's, or too long a help text"};
new_family(true, Kind, Name, Help, Labels, Now) ->
    Same = of_the_same_names(type(Kind), Name),
    case {ets:info(?FAMILIES, size) < ?MOST_FAMILIES,
          [Other || {Other, Used} <- Same, Now - Used < ?ABANDONED]} of
        {true, []} ->
            lists:foreach(fun({Other, _}) -> forget(Other), ets:delete(?FAMILIES, Other) end, Same),
            Copied = [binary:copy(Label) || Label <- Labels],
            true = ets:insert(?FAMILIES, {binary:copy(Name), {Kind, binary:copy(Help), Copied},
                                          Now}),
            {ok, Kind};
        {false, _} ->
            refuse(),
            {error, "is one more than there may be"};
        {true, [Other | _]} ->
            refuse(),
            {error, ["has a name that ", Other, " has for its samples"]}
    end.

%% A scrape in which two families have samples of one name is read by nobody.
of_the_same_names(Type, Name) ->
    Names = hornbeam_metric_name:all_of(Type, Name),
    Owners = lists:usort(lists:append([hornbeam_metric_name:owners(One) || One <- Names])),
    [{Other, Used} || Owner <- Owners, Owner =/= Name,
                      {Other, {Kind, _, _}, Used} <- ets:lookup(?FAMILIES, Owner),
                      Theirs <- [hornbeam_metric_name:all_of(type(Kind), Other)],
                      Theirs -- Names =/= Theirs].

forget(Name) ->
    Series = ets:select_delete(?SERIES, [{{{Name, '_'}}, [], [true]}]),
    atomics:sub(state(), ?COUNT, Series),
    ets:match_delete(?NUMBERS, {{Name, '_', '_'}, '_'}).

refuse() ->
    atomics:add(state(), ?REFUSED, 1).

%% Samples.

add_samples(Samples, Kind, Name, Arity, Owner) when is_list(Samples) ->
    Added = [add_sample(Sample, Kind, Name, Arity, Owner) || Sample <- Samples],
    case lists:member(error, Added) of
        true -> error;
        false -> ok
    end;
add_samples(_None, _Kind, _Name, _Arity, _Owner) ->
    error.

add_sample([Values, Amount], Kind, Name, Arity, Owner) ->
    case is_amount(Kind, Amount) andalso are_values(Values, Arity) of
        true ->
            _ = is_series(Name, Values) andalso add(Kind, Amount, Name, Values, Owner),
            ok;
        false ->
            error
    end;
add_sample(_None, _Kind, _Name, _Arity, _Owner) ->
    error.

is_amount(counter, Amount) -> is_number(Amount) andalso Amount >= 0;
is_amount({gauge, _}, [IsSet, Amount]) -> is_boolean(IsSet) andalso is_number(Amount);
is_amount({histogram, Bounds}, [Counts, Sum]) when is_list(Counts) ->
    is_number(Sum) andalso length(Counts) =:= length(Bounds) + 1
        andalso lists:all(fun(N) -> is_integer(N) andalso N >= 0 end, Counts);
is_amount(_Kind, _Amount) -> false.

are_values(Values, Arity) when is_list(Values), length(Values) =:= Arity ->
    lists:all(fun(Value) -> is_binary(Value) andalso byte_size(Value) =< 1024 end, Values);
are_values(_Values, _Arity) -> false.

is_series(Name, Values) ->
    ets:member(?SERIES, {Name, Values}) orelse new_series(Name, Values).

new_series(Name, Values) ->
    case atomics:add_get(state(), ?COUNT, 1) =< ?MOST_SERIES of
        true ->
            Key = {binary:copy(Name), [binary:copy(Value) || Value <- Values]},
            ets:insert_new(?SERIES, {Key}) orelse atomics:sub(state(), ?COUNT, 1),
            true;
        false ->
            atomics:sub(state(), ?COUNT, 1),
            refuse(),
            false
    end.

add(counter, Amount, Name, Values, _Owner) ->
    add_number(Amount, Name, Values);
add({histogram, _}, [Counts, Sum], Name, Values, _Owner) ->
    add_number(Sum, Name, Values),
    _ = lists:foldl(fun(Count, N) ->
        _ = Count > 0 andalso add_whole({Name, Values, {bucket, N}}, Count),
        N + 1
    end, 1, Counts),
    ok;
add({gauge, mostrecent}, [true, Amount], Name, Values, _Owner) ->
    true = ets:insert(?NUMBERS, {{Name, Values, gauge}, Amount}),
    ok;
add({gauge, mostrecent}, [false, Amount], Name, Values, _Owner) ->
    add_by_swap({Name, Values, gauge}, Amount);
%% Its owner's ops run one after the other.
add({gauge, _}, [IsSet, Amount], Name, Values, Owner) ->
    Key = {Name, Values, {gauge, Owner}},
    case {IsSet, ets:lookup(?NUMBERS, Key)} of
        {false, [{_, Before}]} -> ets:insert(?NUMBERS, {Key, plus(Before, Amount)});
        {true, [_]} -> ets:insert(?NUMBERS, {Key, Amount});
        {_, []} ->
            true = ets:insert(?NUMBERS, {Key, Amount}),
            gen_server:cast(?MODULE, {owner, Owner})
    end,
    ok.

add_number(Amount, Name, Values) when is_integer(Amount) ->
    add_whole({Name, Values, whole}, Amount);
add_number(Amount, Name, Values) ->
    add_by_swap({Name, Values, other}, Amount).

add_whole(Key, Amount) ->
    _ = ets:update_counter(?NUMBERS, Key, Amount, {Key, 0}),
    ok.

add_by_swap(Key, Amount) ->
    case ets:lookup(?NUMBERS, Key) of
        [] ->
            ets:insert_new(?NUMBERS, {Key, Amount}) orelse add_by_swap(Key, Amount),
            ok;
        [{_, Before}] ->
            swap(ets:select_replace(?NUMBERS, [{{'$1', '$2'},
                                                [{'=:=', '$1', {const, Key}},
                                                 {'=:=', '$2', {const, Before}}],
                                                [{{'$1', {const, plus(Before, Amount)}}}]}]),
                 Key, Amount)
    end.

swap(1, _Key, _Amount) -> ok;
swap(0, Key, Amount) -> add_by_swap(Key, Amount).

%% @doc The sum of two numbers; what would be too large stays as it was.
-spec plus(number(), number()) -> number().
plus(A, B) ->
    try
        A + B
    catch
        error:badarith -> A
    end.

%% For who asks.

%% @doc How many updates found no room for a series, or another definition.
-spec refused() -> non_neg_integer().
refused() ->
    atomics:get(state(), ?REFUSED).

%% @doc All families and their series now.
-spec families() -> [family()].
families() ->
    [#{name => Name, type => type(Kind), help => Help, labels => Labels,
       samples => [Sample || {{_, Values}} <- ets:match_object(?SERIES, {{Name, '_'}}),
                             Sample <- sample(Kind, Name, Values)]}
     || {Name, {Kind, Help, Labels}, _Used} <- ets:tab2list(?FAMILIES)].

type(counter) -> counter;
type({gauge, _}) -> gauge;
type({histogram, _}) -> histogram.

sample(counter, Name, Values) ->
    [{Values, number(Name, Values)}];
sample({histogram, Bounds}, Name, Values) ->
    {Buckets, {Count, _}} = lists:mapfoldl(fun(Bound, {Before, N}) ->
        All = Before + number({Name, Values, {bucket, N}}),
        {{Bound, All}, {All, N + 1}}
    end, {0, 1}, Bounds ++ [infinity]),
    [{Values, Buckets, Count, number(Name, Values)}];
sample({gauge, mostrecent}, Name, Values) ->
    [{Values, number({Name, Values, gauge})}];
sample({gauge, Mode}, Name, Values) ->
    case ets:select(?NUMBERS, [{{{Name, Values, {gauge, '_'}}, '$1'}, [], ['$1']}]) of
        [] -> [];
        [First | Others] -> [{Values, lists:foldl(combine(Mode), First, Others)}]
    end.

combine(sum) -> fun plus/2;
combine(min) -> fun erlang:min/2;
combine(max) -> fun erlang:max/2.

number(Name, Values) ->
    plus(number({Name, Values, whole}), number({Name, Values, other})).

number(Key) ->
    case ets:lookup(?NUMBERS, Key) of
        [{_, Number}] -> Number;
        [] -> 0
    end.

%% The ends of those who have gauges.

%% @private
-spec init([]) -> {ok, #{pid() => []}}.
init([]) ->
    Owners = ets:select(?NUMBERS, [{{{'_', '_', {gauge, '$1'}}, '_'}, [], ['$1']}]),
    {ok, lists:foldl(fun watched/2, #{}, Owners)}.

watched(Owner, Watched) when is_map_key(Owner, Watched) ->
    Watched;
watched(Owner, Watched) ->
    _ = erlang:monitor(process, Owner),
    Watched#{Owner => []}.

%% @private
-spec handle_call(term(), gen_server:from(), #{pid() => []}) -> {noreply, #{pid() => []}}.
handle_call(_Request, _From, Watched) ->
    {noreply, Watched}.

%% @private
-spec handle_cast({owner, pid()}, #{pid() => []}) -> {noreply, #{pid() => []}}.
handle_cast({owner, Owner}, Watched) ->
    {noreply, watched(Owner, Watched)}.

%% @private
-spec handle_info(term(), #{pid() => []}) -> {noreply, #{pid() => []}}.
handle_info({'DOWN', _, process, Owner, _}, Watched) ->
    true = ets:match_delete(?NUMBERS, {{'_', '_', {gauge, Owner}}, '_'}),
    {noreply, maps:remove(Owner, Watched)};
handle_info(_Stray, Watched) ->
    {noreply, Watched}.
