%% What is pushed to an open page: server-sent events, each with JSON.
%%
%%   hello    once: the hour that was, what actions need, and what runs
%%   now      every two seconds: the next sample, the workers, and what was logged since
%%
%% A page that does not read holds up its own process alone, until the connection's time is up.
-module(hornbeam_dashboard_feed).

-export([init/2, info/3]).

%% Each has a process, and is told all; who wants more has to close one.
-define(MOST, 16).

-type watching() :: {watching, Monitor :: reference(), LastLine :: non_neg_integer()}.

%% @private
-spec init(cowboy_req:req(), State) ->
    {ok | cowboy_loop, cowboy_req:req(), State | watching()}.
init(Req, State) ->
    case hornbeam_dashboard_http:admit(<<"GET">>, Req) of
        {answered, Answered} -> {ok, Answered, State};
        {_, Admitted} -> watch(hornbeam_dashboard_history:watch(?MOST), Admitted, State)
    end.

watch({error, _TooManyOrGone}, Req, State) ->
    {ok, cowboy_req:reply(503, #{<<"retry-after">> => <<"5">>}, <<>>, Req), State};
watch({ok, History, Monitor}, Req, _State) ->
    Streamed = hornbeam_dashboard_http:stream(Req),
    send(<<"hello">>, hello(History), Streamed),
    {Last, Lines} = hornbeam_dashboard_log:since(0),
    send(<<"log">>, Lines, Streamed),
    {cowboy_loop, Streamed, {watching, Monitor, Last}}.

hello(History) ->
    {ok, Version} = application:get_key(hornbeam, vsn),
    History#{version => list_to_binary(Version), os_pid => list_to_binary(os:getpid()),
             otp => list_to_binary(erlang:system_info(otp_release)),
             action_token => hornbeam_dashboard_access:action_token(hornbeam_dashboard:access())}.

%% @private
-spec info(term(), cowboy_req:req(), State) -> {ok | stop, cowboy_req:req(), State}
    when State :: watching().
info({dashboard, Now}, Req, {watching, Monitor, Last}) ->
    hornbeam_dashboard_http:event(<<"now">>, Now, Req),
    {Newest, Lines} = hornbeam_dashboard_log:since(Last),
    _ = [send(<<"log">>, Lines, Req) || Lines =/= []],
    {ok, Req, {watching, Monitor, Newest}};
info({'DOWN', Monitor, process, _, _}, Req, {watching, Monitor, _Last} = State) ->
    {stop, Req, State};
info(_Stray, Req, State) ->
    {ok, Req, State}.

send(Name, Term, Req) ->
    hornbeam_dashboard_http:event(Name, hornbeam_dashboard_http:text(Term), Req).
