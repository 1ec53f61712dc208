%% The files of the live page, which lie in priv/dashboard.
-module(hornbeam_dashboard_page).

-export([init/2]).

-define(FILES, #{<<"index.html">> => <<"text/html; charset=utf-8">>,
                 <<"page.css">> => <<"text/css; charset=utf-8">>,
                 <<"uplot.css">> => <<"text/css; charset=utf-8">>,
                 <<"page.js">> => <<"text/javascript; charset=utf-8">>,
                 <<"charts.js">> => <<"text/javascript; charset=utf-8">>,
                 <<"tables.js">> => <<"text/javascript; charset=utf-8">>,
                 <<"format.js">> => <<"text/javascript; charset=utf-8">>,
                 <<"uplot.js">> => <<"text/javascript; charset=utf-8">>}).

%% @private
-spec init(cowboy_req:req(), State) -> {ok, cowboy_req:req(), State}
    when State :: File :: binary() | named.
init(Req, File) ->
    case hornbeam_dashboard_http:admit(<<"GET">>, Req) of
        {answered, Answered} -> {ok, Answered, File};
        {enter, Admitted} -> {ok, hornbeam_dashboard_http:enter(Admitted), File};
        {ok, Admitted} -> {ok, serve(named(File, Req), Admitted), File}
    end.

named(named, Req) -> cowboy_req:binding(file, Req);
named(File, _Req) -> File.

serve(File, Req) ->
    case ?FILES of
        #{File := Type} -> cowboy_req:reply(200, #{<<"content-type">> => Type}, content(File), Req);
        _ -> cowboy_req:reply(404, #{}, <<>>, Req)
    end.

content(File) ->
    {ok, Content} = file:read_file(filename:join([code:priv_dir(hornbeam), "dashboard", File])),
    Content.
