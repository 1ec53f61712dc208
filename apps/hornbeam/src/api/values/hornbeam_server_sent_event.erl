%% An event of an event stream (HTML, 9.2.6): what a published message is there. Pure.
%%
%% A message is the data of an event. What else there is to say of one is said by the tuple
%% `{sse, Fields, Data}', of which those who get no event streams have the data alone:
%%
%%   event   its name, by which a page listens
%%   id      what the client tells as Last-Event-ID when it comes back
%%   retry   how soon that is to be (ms)
-module(hornbeam_server_sent_event).

-export([open/1, text/2]).
-export_type([fields/0, fault/0]).

-type fields() :: [{Name :: binary(), Value :: binary()}].
-type fault() :: {no_event, What :: binary()}.
%% What has no form in an event stream.

-define(NAMES, [<<"event">>, <<"id">>, <<"retry">>]).

%% @doc The fields and the data of a packed message. What is not of that form is data.
-spec open(Packed) -> {fields(), Data :: Packed} when Packed :: binary().
open(Packed) ->
    try
        opened(Packed)
    catch
        error:{bad_packed, _} -> {[], Packed}
    end.

opened(<<Tag, _/binary>> = Packed) when Tag >= 16#c7, Tag =< 16#c9; Tag >= 16#d4, Tag =< 16#d8 ->
    of_extension(hornbeam_msgpack_head:token(Packed), Packed);
opened(Packed) ->
    {[], Packed}.

of_extension({{tuple, <<2#1001:4, 3:4, Elements/binary>>}, <<>>}, Packed) ->
    case hornbeam_msgpack_head:token(Elements) of
        {{atom, <<"sse">>}, Rest} -> of_event(hornbeam_msgpack_head:token(Rest), Packed);
        _ -> {[], Packed}
    end;
of_extension(_Other, Packed) ->
    {[], Packed}.

of_event({{map, N}, Rest}, Packed) when N =< 3 ->
    case fields(N, Rest, []) of
        {ok, Fields, Data} -> {Fields, Data};
        none -> {[], Packed}
    end;
of_event(_Other, Packed) ->
    {[], Packed}.

fields(0, Data, Fields) ->
    {ok, lists:sort(Fields), Data};
fields(N, Packed, Fields) ->
    {Name, Rest1} = hornbeam_msgpack_head:token(Packed),
    {Value, Rest2} = hornbeam_msgpack_head:token(Rest1),
    case {field_name(Name), field_value(Value)} of
        {Known, Text} when is_binary(Known), is_binary(Text) ->
            fields(N - 1, Rest2, [{Known, Text} | Fields]);
        _ ->
            none
    end.

field_name({Type, Name}) when Type =:= str; Type =:= atom ->
    case lists:member(Name, ?NAMES) of
        true -> Name;
        false -> none
    end;
field_name(_Token) ->
    none.

field_value({Type, Text}) when Type =:= str; Type =:= atom -> Text;
field_value({number, Number}) when is_integer(Number) -> integer_to_binary(Number);
field_value(_Token) -> none.

%% @doc An event with some fields and data, as it goes out.
-spec text(fields(), Data :: binary()) -> {ok, binary()} | {error, fault()}.
text(Fields, Data) ->
    case lists:filter(fun is_torn/1, Fields) of
        [] -> {ok, iolist_to_binary([[field(Field) || Field <- Fields], lines(Data), $\n])};
        [{Name, _} | _] -> {error, {no_event, <<Name/binary, " with a line break or a NUL">>}}
    end.

%% It would be a line of its own, and so another field.
is_torn({_Name, Value}) ->
    binary:match(Value, [<<"\n">>, <<"\r">>, <<0>>]) =/= nomatch.

field({Name, Value}) -> [Name, <<": ">>, Value, $\n].

lines(Data) ->
    [field({<<"data">>, Line})
     || Line <- binary:split(Data, [<<"\r\n">>, <<"\n">>, <<"\r">>], [global])].
