%% Whom a certificate is about, as one text: its subject's distinguished name (RFC 4514). Pure.
-module(hornbeam_distinguished_name).

-export([subject/1]).

%% The short names that RFC 4514, 3 gives; others are shown by their numbers, with their text where
%% they have one.
-define(NAMES, #{{2, 5, 4, 3} => "CN", {2, 5, 4, 7} => "L", {2, 5, 4, 8} => "ST",
                 {2, 5, 4, 10} => "O", {2, 5, 4, 11} => "OU", {2, 5, 4, 6} => "C",
                 {2, 5, 4, 9} => "STREET", {0, 9, 2342, 19200300, 100, 1, 25} => "DC",
                 {0, 9, 2342, 19200300, 100, 1, 1} => "UID"}).

%% @doc The name of a certificate that has been decoded before.
-spec subject(Der :: binary()) -> binary().
subject(Der) ->
    {'OTPCertificate', Signed, _Algorithm, _Signature} = public_key:pkix_decode_cert(Der, otp),
    %% By position: public_key's records have no types, and the standard gives the order.
    {rdnSequence, Sequence} = element(7, Signed),
    Relative = lists:map(fun relative/1, lists:reverse(Sequence)),
    unicode:characters_to_binary(lists:join(",", Relative)).

relative(Attributes) ->
    lists:join("+", [[name(Type), "=", value(Value)]
                     || {'AttributeTypeAndValue', Type, Value} <- Attributes]).

name(Type) ->
    case ?NAMES of
        #{Type := Name} -> Name;
        #{} -> lists:join(".", [integer_to_list(Number) || Number <- tuple_to_list(Type)])
    end.

value({_Kind, Text}) -> escaped(unicode:characters_to_list(Text));
value(Text) when is_list(Text) -> escaped(Text);
%% A text of X.690 (UTF8String, PrintableString, IA5String) that OTP has left as it came.
value(<<Tag, Size, Text:Size/binary>>)
        when Size < 128, Tag =:= 12 orelse Tag =:= 19 orelse Tag =:= 22 ->
    escaped(unicode:characters_to_list(Text));
value(Der) -> ["#", binary:encode_hex(Der)].

escaped([First | Rest]) when First =:= $\s; First =:= $# -> [$\\, First | to_the_end(Rest)];
escaped(Text) -> to_the_end(Text).

to_the_end([$\s]) -> "\\ ";
to_the_end([0 | Rest]) -> ["\\00" | to_the_end(Rest)];
to_the_end([Char | Rest]) ->
    case lists:member(Char, "\"+,;<>\\") of
        true -> [$\\, Char | to_the_end(Rest)];
        false -> [Char | to_the_end(Rest)]
    end;
to_the_end([]) -> [].
