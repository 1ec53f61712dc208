%% Pids, ports, references and funs in Erlang's external term format: what ext 3 of docs/wire.md
%% holds. Pure.
%%
%% The runtime's own reader makes terms of whatever is in a fun: a byte of its environment can be
%% 16 bytes of a term, and what it knows of formats grows with its releases. So it only gets bytes
%% that were walked through here: few of them, and of the tags below alone.
-module(hornbeam_external).

-export([encode/1, decode/1]).
-export_type([opaque/0]).

-type opaque() :: pid() | port() | reference() | fun().

%% Bytes. What identifies a fun takes about a hundred, the name of a node up to 255.
-define(MAX_SIZE, 1024).

-define(VERSION, 131).
-define(FUN, 112).

%% @doc The bytes of a term; `too_large' for a fun with a large environment.
-spec encode(opaque()) -> {ok, binary()} | too_large.
encode(Term) ->
    %% The size that can be asked for is an estimate from above.
    case erlang:external_size(Term) =< 2 * ?MAX_SIZE of
        true -> fitting(term_to_binary(Term));
        false -> too_large
    end.

fitting(External) when byte_size(External) =< ?MAX_SIZE -> {ok, External};
fitting(_External) -> too_large.

%% @doc The term of some bytes, which may be anything.
-spec decode(binary()) -> {ok, opaque()} | error.
decode(<<?VERSION, Walked/binary>> = External) when byte_size(External) =< ?MAX_SIZE ->
    case opaque(Walked) of
        <<>> -> made(External);
        _ -> error
    end;
decode(_) ->
    error.

%% `safe' makes no atoms, nor entries for functions that no module exports. To make a fun is not to
%% call it.
made(External) ->
    with_fresh_reductions(External),
    try
        {ok, binary_to_term(External, [safe])}
    catch
        error:badarg -> error
    end.

%% Emulators (OTP 25 at least) destroy the heap of a process that is out of reductions in the middle
%% of a fun; who has just yielded has more than so few bytes take.
with_fresh_reductions(<<?VERSION, ?FUN, _/binary>>) -> erlang:yield();
with_fresh_reductions(_NoFun) -> true.

%% The walk: each takes the bytes of what it is named after and gives what follows, or error.

opaque(<<Tag, _/binary>> = Binary) when Tag =:= 88; Tag =:= 103 -> pid(Binary);
opaque(<<89, Rest/binary>>) -> skip(8, atom(Rest));
opaque(<<120, Rest/binary>>) -> skip(12, atom(Rest));
opaque(<<102, Rest/binary>>) -> skip(5, atom(Rest));
opaque(<<90, Ids:16, Rest/binary>>) -> skip(4 + 4 * Ids, atom(Rest));
opaque(<<114, Ids:16, Rest/binary>>) -> skip(1 + 4 * Ids, atom(Rest));
opaque(<<101, Rest/binary>>) -> skip(5, atom(Rest));
opaque(<<113, Rest/binary>>) -> integer(atom(atom(Rest)));
opaque(<<?FUN, _Size:32, _Arity, _Uniq:16/binary, _Index:32, Free:32, Rest/binary>>) ->
    terms(Free, pid(integer(integer(atom(Rest)))));
opaque(_) -> error.

pid(<<88, Rest/binary>>) -> skip(12, atom(Rest));
pid(<<103, Rest/binary>>) -> skip(9, atom(Rest));
pid(_) -> error.

atom(<<119, Size, _:Size/binary, Rest/binary>>) -> Rest;
atom(<<118, Size:16, _:Size/binary, Rest/binary>>) -> Rest;
atom(<<115, Size, _:Size/binary, Rest/binary>>) -> Rest;
atom(<<100, Size:16, _:Size/binary, Rest/binary>>) -> Rest;
atom(_) -> error.

integer(<<97, _, Rest/binary>>) -> Rest;
integer(<<98, _:32, Rest/binary>>) -> Rest;
integer(<<110, Size, _Sign, _:Size/binary, Rest/binary>>) -> Rest;
integer(<<111, Size:32, _Sign, _:Size/binary, Rest/binary>>) -> Rest;
integer(_) -> error.

skip(Size, Binary) ->
    case Binary of
        <<_:Size/binary, Rest/binary>> -> Rest;
        _ -> error
    end.

terms(0, Rest) -> Rest;
terms(N, Rest) when is_binary(Rest), N =< byte_size(Rest) -> terms(N - 1, term(Rest));
terms(_N, _Rest) -> error.

%% What a fun has taken along: data, and what is opaque again.
term(<<106, Rest/binary>>) -> Rest;
term(<<107, Size:16, _:Size/binary, Rest/binary>>) -> Rest;
term(<<108, Size:32, Rest/binary>>) -> terms(Size + 1, Rest);
term(<<104, Size, Rest/binary>>) -> terms(Size, Rest);
term(<<105, Size:32, Rest/binary>>) -> terms(Size, Rest);
term(<<116, Size:32, Rest/binary>>) -> terms(2 * Size, Rest);
term(<<109, Size:32, _:Size/binary, Rest/binary>>) -> Rest;
term(<<77, Size:32, _Bits, _:Size/binary, Rest/binary>>) -> Rest;
term(<<70, _:64, Rest/binary>>) -> Rest;
term(<<Tag, _/binary>> = Binary) when Tag =:= 97; Tag =:= 98; Tag =:= 110; Tag =:= 111 ->
    integer(Binary);
term(<<Tag, _/binary>> = Binary) when Tag =:= 100; Tag =:= 115; Tag =:= 118; Tag =:= 119 ->
    atom(Binary);
term(Binary) ->
    opaque(Binary).
