#lang racket
(define (summed numbers) (for/sum ([number numbers]) number))
(if (= (summed '(1 2 4)) (read)) (displayln "OK") (exit 1))
