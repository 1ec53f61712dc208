%% Python's account (endpoint.py) beside ours: who waits as it says never overspends here, and
%% who sends without a look at it is found within a message or two of its window.
-module(prop_hornbeam_stream_credit).

-include_lib("proper/include/proper.hrl").

-export([prop_honest/0, prop_dishonest/0]).

-define(WINDOW, {1000, 8}).

prop_honest() ->
    ?FORALL(Steps, list(step()), begin
        run(Steps, ?WINDOW, {0, 0}, hornbeam_stream_credit:new(?WINDOW))
    end).

%% What was sent and not given back; Python's side is what it has heard of.
run([], _Open, _Sent, _Account) ->
    true;
run([{send, Size} | Steps], {Bytes, Messages}, {SentBytes, Sent}, Account)
        when Bytes > 0, Messages > 0 ->
    hornbeam_stream_credit:pay(code(), packet(Size), Account) =:= ok
        andalso run(Steps, {Bytes - Size, Messages - 1}, {SentBytes + Size, Sent + 1}, Account);
run([{send, _} | Steps], Open, Sent, Account) ->
    run(Steps, Open, Sent, Account);
run([give | Steps], {Bytes, Messages}, {SentBytes, Sent}, Account) ->
    hornbeam_stream_credit:give(SentBytes, Sent, Account),
    run(Steps, {Bytes + SentBytes, Messages + Sent}, {0, 0}, Account).

prop_dishonest() ->
    ?FORALL(Sizes, vector(9, range(0, 2000)), begin
        Account = hornbeam_stream_credit:new(?WINDOW),
        lists:member(overspent, [hornbeam_stream_credit:pay(code(), packet(Size), Account)
                                 || Size <- Sizes])
    end).

step() -> frequency([{4, {send, range(0, 600)}}, {1, give}]).

packet(Size) ->
    Payload = hornbeam_msgpack:bytes(binary:copy(<<"x">>, Size)),
    iolist_to_binary(hornbeam_msgpack:encode([code(), 1, Payload])).

code() -> 39.
