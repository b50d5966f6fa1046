# Times of lmerTest and pbkrtest for one problem: Rscript inference.R FRAME.csv FORMULA THETA METHOD
# The model is built at the given theta (comma separated), so that only the inference is timed.
# METHOD: summary-satterthwaite, summary-kr or anova3. Prints seconds, then the table as CSV.
suppressMessages({library(lme4); library(lmerTest); library(pbkrtest)})
args <- commandArgs(TRUE)
frame <- read.csv(args[1], stringsAsFactors = TRUE)
for (name in c("subj", "item", "s", "d", "service", "dept")) {
  if (name %in% names(frame)) frame[[name]] <- factor(frame[[name]])
}
formula <- as.formula(args[2])
theta <- as.numeric(strsplit(args[3], ",")[[1]])
parts <- lFormula(formula, frame, REML = TRUE)
deviance_of <- do.call(mkLmerDevfun, parts)
value <- deviance_of(theta)
result <- list(par = theta, fval = value, conv = 0, message = "")
model <- mkMerMod(environment(deviance_of), result, parts$reTrms, fr = parts$fr)
model@call <- call("lmer", formula = formula, data = quote(frame), REML = TRUE)
method <- args[4]
seconds <- system.time({
  own <- as_lmerModLmerTest(model)
  table <- switch(method,
    "summary-satterthwaite" = coef(summary(own)),
    "summary-kr" = coef(summary(own, ddf = "Kenward-Roger")),
    "anova3" = as.data.frame(anova(own)))
})[["elapsed"]]
cat(sprintf("criterion %.6f\nseconds %.4f\n", value, seconds))
write.csv(table)
