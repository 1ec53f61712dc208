%% What a proxy says of a client in front of the connection's first byte: the PROXY protocol of
%% HAProxy, versions 1 and 2, which load balancers speak, too.
%%
%% No byte behind the header is read, however it is cut into packets: TLS or HTTP begin there. What
%% it says is parsed by Ranch. It does not know whom to believe.
-module(hornbeam_proxy_header).

-export([read/2]).

%% The shortest header has more than this, and version 2 begins with so much of its own (bytes).
-define(BEGIN, 12).
-define(SIGNATURE, <<"\r\n\r\n\0\r\nQUIT\n">>).

%% The longest line of version 1 with its end, and the most behind the 16 bytes with which version 2
%% begins: addresses, and what proxies tell of TLS (bytes).
-define(LONGEST_LINE, 107).
-define(MOST, 4096).

%% @doc Read a header from a passive socket, until a deadline (monotonic time, ms). `none': it tells
%% of no client, as when a load balancer looks whether we are there.
-spec read(inet:socket(), Deadline :: integer()) ->
    {ok, hornbeam_endpoints:told() | none} | {error, closed | timeout | no_header}.
read(Socket, Deadline) ->
    case recv(Socket, ?BEGIN, Deadline) of
        {ok, ?SIGNATURE} -> read_binary(Socket, Deadline);
        {ok, <<"PROXY ", _/binary>> = Begin} -> read_line(Begin, Socket, Deadline);
        {ok, _Other} -> {error, no_header};
        {error, _} = Error -> Error
    end.

recv(_Socket, 0, _Deadline) ->
    {ok, <<>>};
recv(Socket, Size, Deadline) ->
    gone(gen_tcp:recv(Socket, Size, max(0, Deadline - erlang:monotonic_time(millisecond)))).

gone({error, Reason}) when Reason =/= timeout, Reason =/= emsgsize -> {error, closed};
gone(Outcome) -> Outcome.

read_binary(Socket, Deadline) ->
    case recv(Socket, 4, Deadline) of
        {ok, <<_:2/binary, Size:16>> = Head} when Size =< ?MOST ->
            parse(recv(Socket, Size, Deadline), <<?SIGNATURE/binary, Head/binary>>);
        {ok, _TooLong} ->
            {error, no_header};
        {error, _} = Error ->
            Error
    end.

%% The driver cuts the line, and keeps what is behind it.
read_line(Begin, Socket, Deadline) ->
    _ = inet:setopts(Socket, [{packet, line}, {packet_size, ?LONGEST_LINE - ?BEGIN}]),
    Rest = gone(gen_tcp:recv(Socket, 0, max(0, Deadline - erlang:monotonic_time(millisecond)))),
    _ = inet:setopts(Socket, [{packet, raw}, {packet_size, 0}]),
    parse(Rest, Begin).

parse({ok, Rest}, Begin) ->
    parsed(<<Begin/binary, Rest/binary>>);
parse({error, emsgsize}, _Begin) ->
    {error, no_header};
parse({error, _} = Error, _Begin) ->
    Error.

parsed(Header) ->
    try ranch_proxy_header:parse(Header) of
        {ok, Read, <<>>} -> meant(Read);
        _ -> {error, no_header}
    catch
        _:_ -> {error, no_header}
    end.

meant(#{command := proxy, transport_family := Family, transport_protocol := stream,
        src_address := From, src_port := FromPort, dest_address := To, dest_port := ToPort} = Read)
        when Family =:= ipv4; Family =:= ipv6 ->
    {ok, #{peer => {From, FromPort}, server => {To, ToPort}, is_secure => is_secure(Read)}};
meant(#{transport_protocol := dgram}) ->
    {error, no_header};
meant(_LocalOrUnknown) ->
    {ok, none}.

%% Whether the client has come to the proxy by TLS, where it says that.
is_secure(#{ssl := #{client := Client}}) -> lists:member(ssl, Client);
is_secure(_Read) -> false.
