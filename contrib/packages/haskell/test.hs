import qualified Data.Map as Map

main :: IO ()
main = do
    input <- readLn :: IO Int
    let sizes = Map.fromList (zip "abc" [1, 2, 4])
    if sum (Map.elems sizes) == input then putStrLn "OK" else error "another number"
