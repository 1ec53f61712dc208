%% The live page for those who operate a server: where it is, who may see it, and its paths.
%%
%%   hornbeam_dashboard_history   a sample of the server's figures every two seconds, for an hour
%%   hornbeam_dashboard_log       the last lines of the log
%%   hornbeam_dashboard_page      the page's files; ─_feed what is pushed to it, ─_tables what it
%%                                asks for, ─_trace what one connection says and hears, ─_actions
%%                                what it has the server do
%%   hornbeam_dashboard_access    who may; all of them ask it by hornbeam_dashboard_http
%%
%% What can be asked of a server and told to it is what `hornbeam' the command can, too
%% (hornbeam_control_requests). Beside the history and the log nothing is done for a page that
%% nobody has open.
-module(hornbeam_dashboard).

-export([open/1, routes/1, path/0, access/0]).

%% @doc Who may see the page of a server with such options, from now on: for the next one another
%% token is good.
-spec open(hornbeam_config:server_options()) -> ok.
open(Server) ->
    persistent_term:put(?MODULE, hornbeam_dashboard_access:new(Server)).

%% @doc What the last server that had a page has said of who may see it.
-spec access() -> hornbeam_dashboard_access:access().
access() ->
    persistent_term:get(?MODULE).

%% @doc The page's path, with the token where the server has made one up: nobody else knows it.
-spec path() -> unicode:chardata().
path() ->
    ["/dashboard", hornbeam_dashboard_access:query(access())].

%% @doc The paths, and who can do what is asked for.
-spec routes(hornbeam_control_requests:start()) ->
    [{Path :: string(), Handler :: module(), term()}].
routes(Start) ->
    [{"/dashboard", hornbeam_dashboard_page, <<"index.html">>},
     {"/dashboard/feed", hornbeam_dashboard_feed, none},
     {"/dashboard/trace/:id", hornbeam_dashboard_trace, none},
     {"/dashboard/tables/:table", hornbeam_dashboard_tables, none},
     {"/dashboard/actions/:action", hornbeam_dashboard_actions, Start},
     {"/dashboard/:file", hornbeam_dashboard_page, named}].
