(let ((sum (reduce #'+ '(1 2 4))))
  (unless (= sum (read)) (sb-ext:exit :code 1))
  (format t "OK~%"))
