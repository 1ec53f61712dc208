%% What all handlers of the live page have in common: who is let in, and what each answer says to a
%% browser.
-module(hornbeam_dashboard_http).

-export([admit/2, enter/1, query/1, body/2, is_own_action/1, number/1, json/3, text/1, stream/1,
         event/3]).

-define(POLICY, <<"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
                  "img-src 'self' data:; base-uri 'none'; form-action 'self'; "
                  "frame-ancestors 'none'">>).

%% @doc Let a request in that may, and has the method; answer it otherwise.
-spec admit(Method :: binary(), cowboy_req:req()) ->
    {ok | enter, cowboy_req:req()} | {answered, cowboy_req:req()}.
admit(Method, Req) ->
    Secured = secured(Req),
    case hornbeam_dashboard_access:check(request(Req), hornbeam_dashboard:access()) of
        {refuse, Why} -> {answered, refuse(Why, Secured)};
        Admitted -> with_method(Method, cowboy_req:method(Req), Admitted, Secured)
    end.

with_method(Method, Method, Admitted, Req) ->
    {Admitted, Req};
with_method(Method, _Other, _Admitted, Req) ->
    {answered, cowboy_req:reply(405, #{<<"allow">> => Method}, <<>>, Req)}.

request(Req) ->
    {Ip, _Port} = cowboy_req:peer(Req),
    Name = port_cookie(Req),
    #{peer => Ip, host => string:lowercase(cowboy_req:host(Req)),
      tokens => [Value || {<<"token">>, Value} <- query(Req), is_binary(Value)],
      sessions => [Value || {Key, Value} <- cookies(Req), Key =:= Name]}.

%% @doc What stands behind the path; nothing where that is no query. Whoever may see nothing here
%% sends what he likes, and has no crash of it in the log.
-spec query(cowboy_req:req()) -> [{binary(), binary() | true}].
query(Req) ->
    try
        cowboy_req:parse_qs(Req)
    catch
        exit:{request_error, _, _} -> []
    end.

cookies(Req) ->
    try
        cowboy_req:parse_cookies(Req)
    catch
        exit:{request_error, _, _} -> []
    end.

%% @doc The fields of a form; none where the body is none, or has not said before that it is no
%% longer than so many bytes.
-spec body(Longest :: pos_integer(), cowboy_req:req()) ->
    {[{binary(), binary() | true}], cowboy_req:req()}.
body(Longest, #{body_length := Length} = Req) when is_integer(Length), Length =< Longest ->
    try
        {ok, Fields, Read} = cowboy_req:read_urlencoded_body(Req, #{length => Longest}),
        {Fields, Read}
    catch
        exit:{request_error, _, _} -> {[], Req}
    end;
body(_Longest, Req) ->
    {[], Req}.

%% Those of several servers on a machine are one browser's, which tells no ports apart.
port_cookie(Req) ->
    {_Ip, Port} = cowboy_req:sock(Req),
    <<"hornbeam_dashboard_", (integer_to_binary(Port))/binary>>.

%% @doc Give the cookie, and have the browser go on without the token. It goes by itself: a
%% redirection of a link on another site's page would bring no cookie.
-spec enter(cowboy_req:req()) -> cowboy_req:req().
enter(Req) ->
    Session = hornbeam_dashboard_access:session(hornbeam_dashboard:access()),
    Given = cowboy_req:set_resp_cookie(port_cookie(Req), Session, Req,
                                       #{path => <<"/dashboard">>, http_only => true,
                                         same_site => strict}),
    page(200, #{<<"refresh">> => <<"0; url=/dashboard">>},
         "<p><a href=\"/dashboard\">Hornbeam</a></p>", Given).

%% The same for all who have no token that is good: who they are is not asked.
refuse(token, Req) ->
    page(403, #{},
         "<h1>Hornbeam</h1><p>Open the link that the server has shown at its start, or enter your "
         "token.</p><form action=\"/dashboard\"><label>Token <input name=\"token\" "
         "type=\"password\" autocomplete=\"off\"></label> <button>Enter</button></form>", Req);
refuse(host, Req) ->
    page(403, #{}, "<h1>Hornbeam</h1><p>By this name the page is not shown. Without a "
                   "dashboard_token it is shown to localhost alone.</p>", Req);
refuse(elsewhere, Req) ->
    page(403, #{}, "<h1>Hornbeam</h1><p>Without a dashboard_token the page is shown to the "
                   "server's own machine alone.</p>", Req).

page(Status, Headers, Body, Req) ->
    cowboy_req:reply(Status, Headers#{<<"content-type">> => <<"text/html; charset=utf-8">>},
                     ["<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">"
                      "<title>Hornbeam</title><link rel=\"icon\" href=\"data:,\">", Body], Req).

%% @doc Whether a request that was let in is an action of the page's own.
-spec is_own_action(cowboy_req:req()) -> boolean().
is_own_action(Req) ->
    hornbeam_dashboard_access:check_action(
        #{authority => cowboy_req:header(<<"host">>, Req, <<>>),
          origin => cowboy_req:header(<<"origin">>, Req),
          site => cowboy_req:header(<<"sec-fetch-site">>, Req),
          token => cowboy_req:header(<<"x-hornbeam-action">>, Req)},
        hornbeam_dashboard:access()) =:= ok.

%% @doc The whole number that a part of a request's address or body is.
-spec number(term()) -> {ok, non_neg_integer()} | error.
number(Text) ->
    case is_binary(Text) andalso re:run(Text, "^[0-9]{1,18}$", [dollar_endonly]) of
        {match, _} -> {ok, binary_to_integer(Text)};
        _ -> error
    end.

%% An answer that is kept by nobody, framed by nobody, and takes nothing from elsewhere.
secured(Req) ->
    cowboy_req:set_resp_headers(
        #{<<"content-security-policy">> => ?POLICY,
          <<"cache-control">> => <<"no-store">>,
          <<"cross-origin-opener-policy">> => <<"same-origin">>,
          <<"cross-origin-resource-policy">> => <<"same-origin">>,
          <<"referrer-policy">> => <<"no-referrer">>,
          <<"x-content-type-options">> => <<"nosniff">>,
          <<"x-frame-options">> => <<"DENY">>}, Req).

%% @doc Answer with a term, as hornbeam_plain shows it.
-spec json(cowboy:http_status(), term(), cowboy_req:req()) -> cowboy_req:req().
json(Status, Term, Req) ->
    cowboy_req:reply(Status, #{<<"content-type">> => <<"application/json">>}, text(Term), Req).

%% @doc Such a term as text of JSON.
-spec text(term()) -> binary().
text(Term) ->
    {ok, {text, Json}} = hornbeam_json:frame(hornbeam_value:from_term(hornbeam_plain:term(Term))),
    Json.

%% @doc Begin an answer of server-sent events, which lasts until either side ends it.
-spec stream(cowboy_req:req()) -> cowboy_req:req().
stream(Req) ->
    cowboy_req:cast({set_options, #{idle_timeout => infinity}}, Req),
    cowboy_req:stream_reply(200, #{<<"content-type">> => <<"text/event-stream">>}, Req).

%% @doc Send one of them. Waits until the connection has taken it.
-spec event(Name :: binary(), Json :: binary(), cowboy_req:req()) -> ok.
event(Name, Json, Req) ->
    cowboy_req:stream_events(#{event => Name, data => Json}, nofin, Req).
