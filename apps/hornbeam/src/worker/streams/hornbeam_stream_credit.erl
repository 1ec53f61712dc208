%% What the app may still send on one stream, kept where the app cannot reach it.
%%
%% Python keeps the same account (docs/wire.md, "Credit") and waits when it is spent; this one
%% holds a Python that does not. The worker's process pays with what arrives, the process that
%% owns the stream gives back what it gives as credit, and neither waits for the other: what they
%% share are three numbers. Whoever gives credit enters it here before it is on its way, so an
%% honest Python is never ahead of this account.
-module(hornbeam_stream_credit).

-include("../../wire/hornbeam_wire.hrl").

-export([new/0, new/1, pay/3, give/3, credit_received/1]).
-export_type([account/0]).

-record(account, {
    %% what was sent and is not given back: bytes, messages; and Python's own credit messages
    %% that the owner has not taken
    counts :: atomics:atomics_ref(),
    limits :: {Bytes :: pos_integer(), Messages :: pos_integer()}
}).
-opaque account() :: #account{}.

-define(BYTES, 1).
-define(MESSAGES, 2).
-define(CREDITS, 3).

%% What a message has at most beside its payload (bytes). Python pays for the payload only; here
%% whole messages are counted, which needs no look into them.
-define(HEAD, 17).

%% What was read of a socket may overdraw the client's account by very many small messages, and
%% with `resume' Python gives the credit of each one by itself. Fewer than this many can be on
%% their way to a process that waits for its socket: half a MiB that is read ahead
%% (hornbeam_read_buffer), six bytes a message.
-define(MAX_CREDITS, 262144).

%% @doc An account with a whole window in it.
-spec new() -> account().
new() ->
    new(hornbeam_stream:window()).

%% @doc An account with a window of so many bytes and messages.
-spec new({Bytes :: pos_integer(), Messages :: pos_integer()}) -> account().
new({Bytes, Messages}) ->
    #account{counts = atomics:new(3, [{signed, true}]),
             limits = {Bytes + Messages * ?HEAD, Messages}}.

%% @doc Pay for a message that has arrived. The one that overdraws the account is still right,
%% the next one is not.
-spec pay(Code :: byte(), Bytes :: binary(), account()) -> ok | overspent.
pay(Code, Bytes, Account) when Code =:= ?SEND_TEXT; Code =:= ?SEND_BYTES;
                               Code =:= ?RESPONSE_BODY ->
    pay_for(byte_size(Bytes), Account);
pay(Code, _Bytes, Account) when Code =:= ?RESPONSE; Code =:= ?RESPONSE_START;
                               Code =:= ?EVENT_STREAM ->
    %% It comes once, and what it pays with is hidden behind its headers.
    pay_for(0, Account);
pay(?CREDIT, _Bytes, #account{counts = Counts}) ->
    ok_if(atomics:add_get(Counts, ?CREDITS, 1) =< ?MAX_CREDITS);
pay(_Once, _Bytes, _Account) ->
    ok.

pay_for(Size, #account{counts = Counts, limits = {Bytes, Messages}}) ->
    BytesBefore = atomics:add_get(Counts, ?BYTES, Size) - Size,
    MessagesBefore = atomics:add_get(Counts, ?MESSAGES, 1) - 1,
    ok_if(BytesBefore < Bytes andalso MessagesBefore < Messages).

ok_if(true) -> ok;
ok_if(false) -> overspent.

%% @doc Give back what is about to be given to Python as credit.
-spec give(Bytes :: non_neg_integer(), Messages :: non_neg_integer(), account()) -> ok.
give(Bytes, Messages, #account{counts = Counts}) ->
    lower(?BYTES, Bytes + Messages * ?HEAD, Counts),
    lower(?MESSAGES, Messages, Counts).

%% The heads that are given back are the longest there are: what is too much is taken away, so
%% that it does not add up.
lower(Which, Amount, Counts) ->
    case atomics:sub_get(Counts, Which, Amount) of
        Below when Below < 0 -> atomics:sub(Counts, Which, Below);
        _ -> ok
    end.

%% @doc The owner has taken one of Python's credit messages.
-spec credit_received(account()) -> ok.
credit_received(#account{counts = Counts}) ->
    atomics:sub(Counts, ?CREDITS, 1).
