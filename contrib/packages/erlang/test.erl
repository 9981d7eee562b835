-module(test).
-export([main/1]).

main(_) ->
    {ok, [Input]} = io:fread("", "~d"),
    Input = lists:sum([1, 2, 4]),
    32 = byte_size(crypto:hash(sha256, <<"x">>)),
    io:format("OK~n").
