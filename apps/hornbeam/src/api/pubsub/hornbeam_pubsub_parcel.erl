%% A published message as bytes, as it goes from node to node. Pure.
%%
%%   <<Publisher:32, Size:32, Topic:Size/binary, Form:8, Value/binary>>
%%
%% Who has published is a number that is the same for all that one process publishes, so that they
%% can be kept in order. What Python gave stays packed (form 0); a term of Erlang's is in the
%% external format (form 1).
-module(hornbeam_pubsub_parcel).

-export([pack/3, publisher/1, unpack/1]).

-define(PACKED, 0).
-define(TERM, 1).

-spec pack(Publisher :: pid(), hornbeam_pubsub_fanout:topic(), hornbeam_value:value()) -> binary().
pack(Publisher, Topic, Value) ->
    {Form, Bytes} = form(Value),
    Number = erlang:phash2(Publisher, 1 bsl 32),
    <<Number:32, (byte_size(Topic)):32, Topic/binary, Form, Bytes/binary>>.

form({packed, Packed}) -> {?PACKED, Packed};
form({term, Term}) -> {?TERM, term_to_binary(Term)};
form(Number) -> {?TERM, term_to_binary(Number)}.

%% @doc Who has published, without a look at the rest.
-spec publisher(binary()) -> non_neg_integer().
publisher(<<Publisher:32, _/binary>>) -> Publisher;
publisher(_) -> 0.

%% @doc What was published, where these bytes are of a form that we know.
-spec unpack(binary()) -> {ok, hornbeam_pubsub_fanout:topic(), hornbeam_value:value()} | error.
unpack(<<_Publisher:32, Size:32, Topic:Size/binary, Form, Bytes/binary>>) ->
    value(Form, Topic, Bytes);
unpack(_) ->
    error.

%% The bytes of the topic alone are kept no longer than it is looked up.
value(?PACKED, Topic, Packed) ->
    {ok, Topic, {packed, Packed}};
value(?TERM, Topic, Bytes) ->
    try binary_to_term(Bytes) of
        Term -> {ok, Topic, hornbeam_value:from_term(Term)}
    catch
        error:badarg -> error
    end;
value(_Form, _Topic, _Bytes) ->
    error.
