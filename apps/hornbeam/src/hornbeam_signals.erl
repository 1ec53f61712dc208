%% What the node does at a signal: SIGHUP reloads the app's code and the certificate.
%%
%% A handler of OTP's own signal server, beside the default one, which ends the node at SIGTERM.
%% OTP passes on no SIGTTIN and no SIGTTOU: the number of workers is changed by
%% hornbeam:set_workers/1 alone.
-module(hornbeam_signals).
-behaviour(gen_event).

-include_lib("kernel/include/logger.hrl").

-export([install/0, uninstall/0]).
-export([init/1, handle_event/2, handle_call/2]).

%% @doc Handle signals from now on.
-spec install() -> ok.
install() ->
    ok = gen_event:add_handler(erl_signal_server, ?MODULE, []),
    os:set_signal(sighup, handle).

%% @doc Leave signals to the system again.
-spec uninstall() -> ok.
uninstall() ->
    ok = os:set_signal(sighup, default),
    _ = gen_event:delete_handler(erl_signal_server, ?MODULE, []),
    ok.

%% @private
-spec init([]) -> {ok, []}.
init([]) ->
    {ok, []}.

%% A reload takes its time, and the signal server has others to serve.
%% @private
-spec handle_event(term(), []) -> {ok, []}.
handle_event(sighup, State) ->
    _ = spawn(fun() ->
        certificate_reloaded(hornbeam:reload_certificate()),
        hornbeam_reloader:conclude(hornbeam:reload()),
        hornbeam_ready:tell()
    end),
    {ok, State};
handle_event(_Signal, State) ->
    {ok, State}.

certificate_reloaded(ok) ->
    ?LOG_NOTICE(#{what => reloaded, part => certificate}, #{domain => [hornbeam]});
certificate_reloaded({error, no_tls}) ->
    ok;
certificate_reloaded({error, Reason}) ->
    ?LOG_ERROR(#{what => not_reloaded, part => certificate, reason => Reason},
               #{domain => [hornbeam]}).

%% @private
-spec handle_call(term(), []) -> {ok, ok, []}.
handle_call(_Request, State) ->
    {ok, ok, State}.
