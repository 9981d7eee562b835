input <- as.numeric(readLines(file("stdin"), n = 1))
fit <- lm(y ~ x, data.frame(x = 1:4, y = c(1, 3, 5, 7)))
if (sum(c(1, 2, 4)) != input || abs(coef(fit)[["x"]] - 2) > 1e-9) quit(status = 1)
cat("OK\n")
