%% What TLS rides on, as ssl's `cb_info' has it: TCP, but for how a connection ends.
%%
%% ssl's last word (close_notify) goes out only with the end of the TCP socket, and a socket that is
%% closed while the client still sends is reset before the client has read that word. So:
%%
%%   ssl:shutdown(Socket, read_write)   the last word, and then we linger (hornbeam_socket)
%%   ssl:shutdown(Socket, read)         a reset and no last word: something is missing
%%
%% What is behind shutdown/2 runs in ssl's process, which owns the TCP socket, and which ends with
%% the error that it gets: there is no connection any more.
-module(hornbeam_tls_transport).

-export([info/0]).
-export([listen/2, accept/2, controlling_process/2, send/2, recv/3, shutdown/2, close/1]).
-export([setopts/2, getopts/2, getstat/2, peername/1, sockname/1, port/1]).

%% @doc The option of a listening socket whose connections are to end so.
-spec info() -> {cb_info, {module(), tcp, tcp_closed, tcp_error, tcp_passive}}.
info() -> {cb_info, {?MODULE, tcp, tcp_closed, tcp_error, tcp_passive}}.

%% @private
-spec shutdown(inet:socket(), read | write | read_write) -> ok | {error, term()}.
shutdown(Socket, read_write) ->
    hornbeam_socket:linger({ranch_tcp, Socket}),
    _ = gen_tcp:close(Socket),
    {error, closed};
shutdown(Socket, read) ->
    hornbeam_socket:reset({ranch_tcp, Socket}),
    {error, closed};
shutdown(Socket, write) ->
    gen_tcp:shutdown(Socket, write).

%% @private
-spec listen(inet:port_number(), [gen_tcp:listen_option()]) ->
    {ok, inet:socket()} | {error, term()}.
listen(Port, Options) -> gen_tcp:listen(Port, Options).

%% @private
-spec accept(inet:socket(), timeout()) -> {ok, inet:socket()} | {error, term()}.
accept(Listener, Timeout) -> gen_tcp:accept(Listener, Timeout).

%% @private
-spec controlling_process(inet:socket(), pid()) -> ok | {error, term()}.
controlling_process(Socket, Pid) -> gen_tcp:controlling_process(Socket, Pid).

%% @private
-spec send(inet:socket(), iodata()) -> ok | {error, term()}.
send(Socket, Data) -> gen_tcp:send(Socket, Data).

%% @private
-spec recv(inet:socket(), non_neg_integer(), timeout()) -> {ok, term()} | {error, term()}.
recv(Socket, Length, Timeout) -> gen_tcp:recv(Socket, Length, Timeout).

%% @private
-spec close(inet:socket()) -> ok.
close(Socket) -> gen_tcp:close(Socket).

%% @private
-spec setopts(inet:socket(), [inet:socket_setopt()]) -> ok | {error, inet:posix()}.
setopts(Socket, Options) -> inet:setopts(Socket, Options).

%% @private
-spec getopts(inet:socket(), [inet:socket_getopt()]) ->
    {ok, [inet:socket_setopt()]} | {error, inet:posix()}.
getopts(Socket, Options) -> inet:getopts(Socket, Options).

%% @private
-spec getstat(inet:socket(), [inet:stat_option()]) ->
    {ok, [{inet:stat_option(), integer()}]} | {error, inet:posix()}.
getstat(Socket, Options) -> inet:getstat(Socket, Options).

%% @private
-spec peername(inet:socket()) -> {ok, term()} | {error, inet:posix()}.
peername(Socket) -> inet:peername(Socket).

%% @private
-spec sockname(inet:socket()) -> {ok, term()} | {error, inet:posix()}.
sockname(Socket) -> inet:sockname(Socket).

%% @private
-spec port(inet:socket()) -> {ok, inet:port_number()} | {error, any()}.
port(Socket) -> inet:port(Socket).
