%% What a metric and its labels may be called, and which names a family has in a scrape. Pure.
%%
%% A family stands there under several names, and no two families under the same one: of a scrape
%% that has that nothing is read.
-module(hornbeam_metric_name).

-export([is_name/1, is_label/1, is_reserved/1, all_of/2, owners/1]).
-export_type([type/0]).

-type type() :: counter | gauge | histogram | summary.

-define(NAME, "^[a-zA-Z_:][a-zA-Z0-9_:]*$").
-define(LABEL, "^[a-zA-Z_][a-zA-Z0-9_]*$").
-define(RESERVED, "^(hornbeam|erlang_vm|erlang_mnesia)_").

%% Bytes.
-define(LONGEST, 256).

-spec is_name(term()) -> boolean().
is_name(Text) -> matches(Text, ?NAME).

-spec is_label(term()) -> boolean().
is_label(Text) -> matches(Text, ?LABEL).

%% @doc Whether a name begins as those of the server's own metrics do.
-spec is_reserved(binary()) -> boolean().
is_reserved(Name) -> matches(Name, ?RESERVED).

matches(Text, Regex) ->
    is_binary(Text) andalso byte_size(Text) =< ?LONGEST
        andalso re:run(Text, Regex, [dollar_endonly, {capture, none}]) =:= match.

%% @doc All names of a family and its samples, in either format; the name of a counter may end in
%% `_total' or not.
-spec all_of(type(), Name :: binary()) -> [binary(), ...].
all_of(Type, Name) ->
    Base = base(Type, Name),
    [Base | [<<Base/binary, Suffix/binary>> || Suffix <- suffixes(Type)]].

base(counter, Name) -> without(<<"_total">>, Name);
base(_Type, Name) -> Name.

without(Suffix, Name) ->
    Size = byte_size(Suffix),
    case binary:longest_common_suffix([Name, Suffix]) of
        Size -> binary:part(Name, 0, byte_size(Name) - Size);
        _ -> Name
    end.

suffixes(counter) -> [<<"_total">>, <<"_created">>];
suffixes(gauge) -> [];
suffixes(histogram) -> [<<"_bucket">> | suffixes(summary)];
suffixes(summary) -> [<<"_count">>, <<"_sum">>, <<"_created">>].

%% @doc What a family may be called that has a name among its own.
-spec owners(Name :: binary()) -> [binary(), ...].
owners(Name) ->
    Bases = [Name | [without(Suffix, Name)
                     || Suffix <- [<<"_total">>, <<"_created">>, <<"_bucket">>, <<"_count">>,
                                   <<"_sum">>]]],
    Bases ++ [<<Base/binary, "_total">> || Base <- Bases].
